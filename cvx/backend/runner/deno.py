"""Where Deno is, and the one command line that starts a child.

Rule: nothing else in the backend builds Deno's arguments. A child gets no permission at all: no file, network,
environment, process or system access, no prompt, no remote or npm module, no configuration file; code from strings
is off. Its environment is empty but for the time zone, its working folder is the root. A child that runs actions may
use the network, and nothing else; it is told how to reach it (proxies, certificates). One that runs "use node" actions
may also read its own code and packages, keep temporary files in a folder of its own, and ask about the system;
it may start no process, and load native code only from packages and where the backend was told so.
Source: reference/runtime-and-database.md §13; docs: the `deno` wheel on PyPI (`deno.find_deno_bin`).
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import deno  # type: ignore[import-untyped]

from cvx.backend.config import Limits
from cvx.errors import CvxError

HOST_SCRIPT: Final = Path(__file__).parent / "js" / "host.js"
ACTION_SCRIPT: Final = Path(__file__).parent / "js" / "action_host.js"
NODE_SCRIPT: Final = Path(__file__).parent / "js" / "node_host.js"
NODE_BUILTINS: Final = Path(__file__).parent / "js" / "node_builtins.json"
_MIB: Final = 1 << 20


def find_deno() -> Path:
    """The binary that came with the `deno` wheel. Raises CvxError "DenoNotFound"."""
    try:
        path = Path(deno.find_deno_bin())
    except (FileNotFoundError, OSError, AttributeError):
        path = Path()
    if not path.is_file():
        raise CvxError(
            "DenoNotFound",
            "The Deno binary that runs functions is missing from this Python environment.",
            kind="unavailable",
            hint="Reinstall it: python -m pip install --force-reinstall deno",
        )
    return path


def child_arguments(deno_path: Path, limits: Limits, *, open_realm: bool = False) -> list[str]:
    """The command line of a child that runs queries and mutations."""
    return _isolate_arguments(deno_path, limits, HOST_SCRIPT, limits.runner_heap_bytes_max, (), open_realm)


def start_child(
    deno_path: Path, limits: Limits, stderr: int, *, open_realm: bool = False
) -> subprocess.Popen[bytes]:
    """Start one. Its stdin and stdout are pipes of ours, `stderr` is a file of the caller."""
    child = _piped(child_arguments(deno_path, limits, open_realm=open_realm), stderr, _ENVIRONMENT)
    limit_child(child.pid, limits, limits.runner_data_bytes_max)  # Code that asks for more gets a RangeError.
    return child


def _piped(arguments: list[str], stderr: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        cwd="/",
        env=environment,
        start_new_session=True,  # A Ctrl-C in the terminal is for us to answer, not for the child.
    )


_ENVIRONMENT: Final = {
    "TZ": "UTC",
    "NO_COLOR": "1",
    "DENO_NO_UPDATE_CHECK": "1",
    "DENO_DIR": "/dev/null/none",  # Nothing is cached: measured, it starts no slower.
    "LANG": "C.UTF-8",
}
_NETWORK_VARIABLES: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "DENO_CERT",
    "DENO_TLS_CA_STORE", "SSL_CERT_FILE",
)  # fmt: skip


def action_arguments(deno_path: Path, limits: Limits, *, open_realm: bool = False) -> list[str]:
    """The command line of a child that runs actions."""
    allowed = ("--allow-net",)
    return _isolate_arguments(
        deno_path, limits, ACTION_SCRIPT, limits.action_heap_bytes_max, allowed, open_realm
    )


def _isolate_arguments(
    deno_path: Path, limits: Limits, script: Path, heap_bytes: int, allowed: tuple[str, ...], open_realm: bool
) -> list[str]:
    return [
        str(deno_path),
        "run",
        "--quiet",
        "--no-prompt",
        "--no-remote",
        "--no-npm",
        "--no-config",
        "--no-lock",
        "--no-code-cache",
        *allowed,
        # V8's compilation cache would keep the sources of past pushes.
        "--v8-flags=--disallow-code-generation-from-strings,--no-compilation-cache,"
        f"--max-old-space-size={heap_bytes // _MIB}",
        str(script),
        *_console_bounds(limits),
        *(("--open-realm",) if open_realm else ()),
    ]


def start_action_child(
    deno_path: Path, limits: Limits, stderr: int, *, open_realm: bool = False
) -> subprocess.Popen[bytes]:
    """Start one. Its stdin and stdout are pipes of ours, `stderr` is a file of the caller."""
    arguments = action_arguments(deno_path, limits, open_realm=open_realm)
    child = _piped(arguments, stderr, {**_ENVIRONMENT, **_network_environment()})
    limit_child(child.pid, limits, limits.action_data_bytes_max)
    return child


def _network_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _NETWORK_VARIABLES if name in os.environ}


def _console_bounds(limits: Limits) -> list[str]:
    """What console.js keeps to."""
    return [f"--log-lines={limits.log_lines_max}", f"--log-line-bytes={limits.log_line_bytes_max}"]


@dataclass(frozen=True)
class NodeChildFolders:
    """What a "use node" child may read, all absolute: its code, the packages it imports (None: none), and its own
    folder for temporary files, which it may also write. `native`: packages may load native code, which is then not
    confined by anything."""

    code: Path
    packages: Path | None
    temporary: Path
    native: bool = False


def node_arguments(
    deno_path: Path, limits: Limits, folders: NodeChildFolders, sockets: tuple[int, int]
) -> list[str]:
    """The command line of a child that runs "use node" actions."""
    readable = [folders.code, folders.temporary]
    npm = ["--no-npm"]
    if folders.packages is not None:
        readable.append(folders.packages)
        npm = ["--node-modules-dir=manual"]  # From the code's node_modules, and only from there.
        if folders.native:
            npm.append(f"--allow-ffi={_listed([folders.packages])}")
    return [
        str(deno_path),
        "run",
        "--quiet",
        "--no-prompt",
        "--no-remote",
        *npm,
        "--no-config",
        "--no-lock",
        "--no-code-cache",
        f"--import-map={NODE_BUILTINS}",
        "--unstable-unsafe-proto",  # `__proto__`, which old packages use.
        "--allow-net",
        "--allow-env",
        "--allow-sys",
        f"--allow-read={_listed(readable)}",
        f"--allow-write={_listed([folders.temporary])}",
        f"--v8-flags=--max-old-space-size={limits.node_heap_bytes_max // _MIB}",
        str(NODE_SCRIPT),
        *map(str, sockets),
        f"{folders.code.as_uri()}/",
        *_console_bounds(limits),
    ]


def start_node_child(
    deno_path: Path, limits: Limits, folders: NodeChildFolders, stderr: int
) -> subprocess.Popen[bytes]:
    """Start one. Its stdin and stdout, as we see them, are sockets: the child's own standard output is `stderr`, so
    that what packages print there is not taken for frames."""
    ours_out, theirs_in = socket.socketpair()
    theirs_out, ours_in = socket.socketpair()
    with ours_out, ours_in, theirs_in, theirs_out:
        sockets = (theirs_in.fileno(), theirs_out.fileno())
        child = subprocess.Popen(
            node_arguments(deno_path, limits, folders, sockets),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            bufsize=0,
            cwd=folders.temporary,
            pass_fds=sockets,
            env={
                **_ENVIRONMENT,
                "HOME": str(folders.temporary),
                "TMPDIR": str(folders.temporary),
                **_network_environment(),
            },
            start_new_session=True,
        )
        child.stdin = os.fdopen(ours_out.detach(), "wb", buffering=0)
        child.stdout = os.fdopen(ours_in.detach(), "rb", buffering=0)
    limit_child(child.pid, limits, limits.action_data_bytes_max)
    return child


def install_arguments(deno_path: Path) -> list[str]:
    """The command line that installs the packages of the package.json in its working folder, without running any of
    their scripts."""
    layout = ("--node-modules-dir=manual", "--node-modules-linker", "hoisted")
    return [str(deno_path), "install", "--quiet", "--no-lock", *layout]


def _listed(paths: list[Path]) -> str:
    """Paths as a permission flag lists them; a comma in one is doubled."""
    return ",".join(str(path).replace(",", ",,") for path in paths)


def limit_child(pid: int, limits: Limits, data_bytes_max: int) -> None:
    """No core dumps, a first lease of CPU time, and so much writable memory: V8's own limit knows nothing of array
    buffers."""
    _limit(pid, resource.RLIMIT_CORE, 0)
    _limit(pid, resource.RLIMIT_DATA, data_bytes_max)
    lend_cpu_time(pid, 0, limits.runner_cpu_lease_s)


def lend_cpu_time(pid: int, used_s: float, more_s: float) -> None:
    """Let the child use `more_s` further seconds of CPU. Renewed while we live, so that a child stuck in a loop
    ends by itself when we were killed and nobody is left to end it. (Linux only; elsewhere it does nothing.)"""
    _limit(pid, resource.RLIMIT_CPU, int(used_s + more_s) + 1)


def _limit(pid: int, what: int, value: int) -> None:
    prlimit = getattr(resource, "prlimit", None)
    if prlimit is None:
        return
    try:
        _, hard = prlimit(pid, what)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        prlimit(pid, what, (bounded, hard))
    except (OSError, ValueError):
        return  # Gone already, or a kernel that refuses: the parent's own watch remains.


def cpu_seconds(pid: int) -> float | None:
    """CPU time a process has used, or None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def resident_bytes(pid: int) -> int | None:
    """Memory a process holds, or None where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
