"""The local deployment's backend: start `cvx backend serve` as a child, adopt one that runs, stop it.

It meets the other wing only here, through a command line and HTTP. The child's own output goes to
`backend.log` in the deployment's folder; its secret travels in the environment, never in the arguments.

Rule: a backend that was started here is gone when its owner is, except after kill -9; then the next command
adopts it (same pid, same start time, same name on its port).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.dev.ports import free_pair, holder, is_free
from cvx.toolchain.progress import Notice, Reporter
from cvx.toolchain.project import (
    ENV_LOCAL,
    PORT_FIRST,
    Deployment,
    LocalConfig,
    LocalState,
    Project,
    backend_limits,
    detect_framework,
    list_local,
    local_state,
    native_packages,
    read_env_file,
)

READY_DEADLINE_S = 30.0
READY_POLL_S = 0.01
STOP_DEADLINE_S = 0.6
# Projects that are started together all see the same port free; each round one of them gets it.
PORT_TRIES = 12
SECRET_VARIABLE = "CVX_INSTANCE_SECRET"
LOG_BYTES_MAX = 4 << 20
_LOCAL_URL = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)/?\Z")


class _InstanceFile(msgspec.Struct, rename="camel"):
    admin_key: str


@dataclass
class LocalBackend:
    """A backend that answers. `process` is None when it was adopted.

    `log_start` is where its own words begin in the log file; `limits` is what it was started with, `name=value`.
    """

    state: LocalState
    config: LocalConfig
    process: subprocess.Popen[bytes] | None
    pid: int | None
    log_start: int = 0
    limits: tuple[str, ...] = ()

    def last_words(self, lines: int = 8) -> str:
        """The end of what it has written to its log."""
        try:
            with self.state.log_file.open("rb") as file:
                file.seek(max(self.log_start, file.seek(0, os.SEEK_END) - 8_192))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    @property
    def deployment(self) -> Deployment:
        """How to talk to it."""
        config = self.config
        assert config.admin_key is not None, "a backend that answers has issued its key"
        return Deployment(self.state.name, "local", config.url, config.admin_key, config.site_url)

    def is_gone(self) -> bool:
        """Has its process ended?"""
        if self.process is not None:
            return self.process.poll() is not None
        return self.state.running() is None

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL for one that does not listen in time."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.state.note_stopped()
        else:
            stop_backend(self.state)


async def start_backend(
    project: Project, state: LocalState, reporter: Reporter, *, port: int | None = None
) -> LocalBackend:
    """The backend of a local deployment, answering: adopted when it runs, started otherwise.

    The deployment is created when it does not exist. Raises `PortTaken` (only for a `port` that was asked
    for), `BackendFailed` with the backend's own last words, or `StateFolderNotWritable`.
    """
    limits = limit_settings(project)
    with _start_turn(state):
        adopted = await _adopt(state, port)
        if adopted is not None:
            reporter.report(Notice(f"Using the backend that runs already (pid {adopted.pid}).", "verbose"))
            if adopted.limits != limits:
                what = "The backend that runs already was started with other limits than cvx.toml's"
                reporter.report(Notice(f"{what}. To apply them: cvx backend stop", "warning"))
            return adopted
        _trim(state.log_file)
        for attempt in range(1, PORT_TRIES + 1):
            config = _with_ports(project, state, reporter, port)
            try:
                return await _start(project, state, config, limits)
            except CvxError as error:
                # Another project's backend may have taken the port between our look and our child's.
                if attempt == PORT_TRIES or port is not None or "PortInUse" not in error.message:
                    raise
        raise AssertionError("the last try returns or raises")


@asynccontextmanager
async def running_backend(
    project: Project, name: str, reporter: Reporter, *, create: bool
) -> AsyncIterator[Deployment]:
    """A local deployment for as long as one command needs it.

    One that runs is used and left alone; one that does not is started and stopped. Without `create` a
    deployment that does not exist is an error.
    """
    state = local_state(project, name)
    if not create and not state.exists():
        raise CvxError(
            "DeploymentNotCreated",
            f"The local deployment {name!r} does not exist yet.",
            kind="not_found",
            hint="Run `cvx dev` to create it.",
            retry_when="files",
        )
    backend = await start_backend(project, state, reporter)
    try:
        yield backend.deployment
    finally:
        if backend.process is not None and not _is_driven(state):
            await asyncio.to_thread(backend.stop)


def prepare_deployment(project: Project, state: LocalState, reporter: Reporter) -> LocalConfig:
    """The configuration of a local deployment, with ports chosen for it when it is new. Starts nothing."""
    return state.load() or _with_ports(project, state, reporter, None)


def stop_backend(state: LocalState) -> int | None:
    """Stop the backend of a local deployment, whoever started it; its pid, or None when none ran."""
    running = state.running()
    if running is None:
        return None
    for number, deadline_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        with suppress(ProcessLookupError):
            os.kill(running.pid, number)
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if state.running() is None:
                return running.pid
            time.sleep(0.01)
    raise CvxError(
        "BackendNotStopped",
        f"The backend (pid {running.pid}) does not end.",
        hint=f"Look at it: ps -p {running.pid}",
    )


async def answers_as(port: int, instance_name: str) -> bool:
    """Does the backend called `instance_name` answer on this port?"""
    return await _instance_name(port) == instance_name


# ---- inside ------------------------------------------------------------------------------------------


def limit_settings(project: Project) -> tuple[str, ...]:
    """The limits of `cvx.toml` as `cvx backend serve --limit` takes them."""
    return tuple(f"{name}={value}" for name, value in backend_limits(project).items())


async def _start(
    project: Project, state: LocalState, config: LocalConfig, limits: tuple[str, ...]
) -> LocalBackend:
    log_start = state.log_file.stat().st_size if state.log_file.exists() else 0
    process = _spawn(project, state, config, limits)
    state.note_running(process.pid, config.cloud_port, config.site_port, limits)
    backend = LocalBackend(state, config, process, process.pid, log_start, limits)
    try:
        await _wait_until_ready(backend)
        backend.config = _with_key(state, config)
    except BaseException:
        backend.stop()
        raise
    return backend


async def _adopt(state: LocalState, port: int | None) -> LocalBackend | None:
    config, running = state.load(), state.running()
    if config is None or running is None:
        return None
    config = replace(config, cloud_port=running.cloud_port, site_port=running.site_port)
    if port is not None and port != running.cloud_port:
        raise CvxError(
            "BackendRunning",
            f"The backend runs already on port {running.cloud_port} (pid {running.pid}), not on {port}.",
            kind="conflict",
            hint="Stop it first: cvx backend stop",
        )
    end = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < end:
        if await answers_as(running.cloud_port, config.instance_name):
            return LocalBackend(state, _with_key(state, config), None, running.pid, limits=running.limits)
        if state.running() is None:
            return None
        await asyncio.sleep(READY_POLL_S)
    await asyncio.to_thread(stop_backend, state)  # It lives but does not answer.
    return None


def _with_ports(project: Project, state: LocalState, reporter: Reporter, wanted: int | None) -> LocalConfig:
    """The deployment's configuration with two ports that are free now."""
    config = state.load()
    if wanted is not None:
        pair = (wanted, wanted + 1)
        for port in pair:
            if not is_free(port):
                raise CvxError(
                    "PortTaken",
                    f"Port {port} is taken by {holder(port)}.",
                    kind="conflict",
                    hint="Pass another --port, or none: then the next free one is used.",
                )
        return state.move_ports(*pair) if config else state.create(_instance(project, state), *pair)
    others = _ports_of_others(project, state)
    if config is None:
        preferred = _port_in_env_local(project)
        if (
            preferred in others
        ):  # The file names another deployment of this project, which need not run just now.
            preferred = None
        if preferred is not None and is_free(preferred) and is_free(preferred + 1):
            pair = (preferred, preferred + 1)
        else:
            if preferred is not None:
                _say_taken(reporter, preferred, free_pair(PORT_FIRST, avoid=others)[0])
            pair = free_pair(PORT_FIRST, avoid=others)
        return state.create(_instance(project, state), *pair)
    taken = next((p for p in (config.cloud_port, config.site_port) if not is_free(p)), None)
    if taken is None:
        return config
    pair = free_pair(PORT_FIRST, avoid=others)
    _say_taken(reporter, taken, pair[0])
    return state.move_ports(*pair)


def _say_taken(reporter: Reporter, port: int, instead: int) -> None:
    reporter.report(Notice(f"Port {port} is taken by {holder(port)}; using {instead}.", "warning"))


def _ports_of_others(project: Project, state: LocalState) -> list[int]:
    """Ports that this project's other local deployments call their own."""
    configs = (other.load() for other in list_local(project) if other.name != state.name)
    return [port for c in configs if c is not None for port in (c.cloud_port, c.site_port)]


def _port_in_env_local(project: Project) -> int | None:
    """The port `.env.local` already tells the front end: worktrees and teams choose it there."""
    variables = read_env_file(project.root / ENV_LOCAL)
    url = variables.get(detect_framework(project.package_json).url_variable, "")
    match = _LOCAL_URL.match(url)
    return int(match.group(1)) if match else None


def _instance(project: Project, state: LocalState) -> str:
    """A name for the instance: says which project's backend answers on a port.

    Worktrees of one project have the same name; the suffix tells their backends apart.
    """
    base = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-") or "app"
    return f"local-{base}-{state.name}-{secrets.token_hex(3)}"


def _spawn(
    project: Project, state: LocalState, config: LocalConfig, limits: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cvx", "backend", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(config.cloud_port), "--site-port", str(config.site_port)]
    command += ["--data", str(state.data_dir), "--instance-name", config.instance_name, "--dev-issuer"]
    command += ["--node-modules", str(project.root / "node_modules")]
    if native_packages(project):
        command.append("--native-packages")
    for setting in limits:
        command += ["--limit", setting]
    environment = {**os.environ, SECRET_VARIABLE: config.instance_secret, "NO_COLOR": "1"}
    with state.log_file.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            # Ctrl-C in the terminal is for `cvx dev`, which then stops the backend in order.
            start_new_session=True,
        )


async def _wait_until_ready(backend: LocalBackend) -> None:
    end = time.monotonic() + READY_DEADLINE_S
    while not await answers_as(backend.config.cloud_port, backend.config.instance_name):
        if backend.is_gone():
            assert backend.process is not None
            raise _failed(backend, f"ended with status {backend.process.returncode} while starting")
        if time.monotonic() > end:
            raise _failed(backend, f"did not answer within {READY_DEADLINE_S:.0f} s")
        await asyncio.sleep(READY_POLL_S)


def _failed(backend: LocalBackend, why: str) -> CvxError:
    words = backend.last_words()
    return CvxError(
        "BackendFailed",
        f"The local backend {why}." + (f" Its last words:\n{words}" if words else ""),
        kind="unavailable",
        hint=f"See {backend.state.log_file}.",
        retry_when="time",
    )


def _with_key(state: LocalState, config: LocalConfig) -> LocalConfig:
    """The configuration with the admin key the backend issued, noted for the next command."""
    path = state.data_dir / "instance.json"
    try:
        key = msgspec.json.decode(path.read_bytes(), type=_InstanceFile).admin_key
    except (OSError, msgspec.MsgspecError) as error:
        raise CvxError(
            "InvalidLocalState",
            f"The backend's admin key cannot be read from {path}: {error}",
            hint="Stop the backend (`cvx backend stop`) and start it again.",
        ) from error
    if config.admin_key == key and state.load() == config:
        return config
    keyed = replace(config, admin_key=key)
    state.save(keyed)
    return keyed


async def _instance_name(port: int) -> str | None:
    """`GET /instance_name`, by hand: it is asked a hundred times a second while a backend starts."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)
    except (OSError, asyncio.TimeoutError):
        return None
    try:
        writer.write(b"GET /instance_name HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(65_536), 5)
    except (OSError, asyncio.TimeoutError):
        return None
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace").strip() if head.split(b" ", 2)[1:2] == [b"200"] else None


def _is_driven(state: LocalState) -> bool:
    """Has a `cvx dev` taken this backend over meanwhile?"""
    try:
        with state.dev_lock():
            return False
    except CvxError:
        return True


@contextmanager
def _start_turn(state: LocalState) -> Iterator[None]:
    """Two commands that start the same backend at once: the second waits and finds it running."""
    state.folder.mkdir(parents=True, exist_ok=True)
    ignore = state.folder.parent.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    with (state.folder / "start.lock").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _trim(log: Path) -> None:
    """Begin a new log when the old one has grown too long."""
    with suppress(OSError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".old.log"))
