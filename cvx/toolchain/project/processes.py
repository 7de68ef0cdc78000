"""Is this process still the one we started? A pid alone cannot tell: the system uses it again.

Source: proc(5), field 22 of /proc/PID/stat; ps(1) elsewhere on Unix.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def process_start(pid: int) -> str | None:
    """Something that differs between two processes with the same pid; None when none has it now."""
    if pid <= 0:
        return None
    if sys.platform == "win32":
        return _windows_start(pid)
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text("ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # Field 3 is the state: a zombie has ended, only nobody has asked for its status yet.
        return None if fields[0] == "Z" else fields[19]
    return _ps_start(pid)


def _ps_start(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
        env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "/bin:/usr/bin")},
    )
    return answer.stdout.strip() or None


def _windows_start(pid: int) -> str | None:
    # tasklist has no start time; the image name at least tells a recycled pid of another program.
    answer = subprocess.run(
        ["tasklist", "/FI", f"PID eq {pid}", "/FO", "CSV", "/NH"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    first = answer.stdout.strip().partition(",")[0].strip('"')
    return first if f'"{pid}"' in answer.stdout else None
