"""Who this backend is: name, secret and admin key, in `<data>/instance.json`, readable by its owner alone.

Created on first use. A secret handed in (environment, container) is written down the first time and must be
the same afterwards: with another one every admin key and every stored token would stop working silently.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvx.backend.auth.admin_keys import issue_admin_key, new_instance_secret
from cvx.errors import CvxError

INSTANCE_FILE = "instance.json"
DEFAULT_INSTANCE_NAME = "cvx"


class _Stored(msgspec.Struct, rename="camel"):
    instance_name: str
    instance_secret: str
    admin_key: str


@dataclass(frozen=True)
class Instance:
    """The identity of one backend. `secret` and `admin_key` never reach a log."""

    name: str
    secret: str
    admin_key: str


def load_instance(
    data_dir: Path, *, name: str | None = None, secret: str | None = None, rotate_key: bool = False
) -> Instance:
    """The identity kept in `data_dir`, made on first use.

    `rotate_key` makes a new secret, which revokes every earlier admin key. Raises `InvalidInstanceFile`,
    `InstanceMismatch` (another name or secret is stored) or `DataFolderNotWritable`.
    """
    path = data_dir / INSTANCE_FILE
    stored = _read(path)
    if stored is None:
        chosen = name or DEFAULT_INSTANCE_NAME
        return _write(path, chosen, secret or new_instance_secret())
    if name is not None and name != stored.instance_name:
        raise CvxError(
            "InstanceMismatch",
            f"{data_dir} belongs to the deployment {stored.instance_name!r}, not {name!r}.",
            kind="conflict",
            hint=f"Pass --instance-name {stored.instance_name}, or another --data folder.",
        )
    if secret is not None and secret != stored.instance_secret:
        raise CvxError(
            "InstanceMismatch",
            f"The instance secret that was given is not the one {path} holds.",
            kind="conflict",
            hint="Unset CVX_INSTANCE_SECRET, or restore the secret this data folder was made with.",
        )
    if rotate_key:
        return _write(path, stored.instance_name, new_instance_secret())
    return Instance(stored.instance_name, stored.instance_secret, stored.admin_key)


def _read(path: Path) -> _Stored | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CvxError(
            "DataFolderNotWritable",
            f"{path} cannot be read: {error.strerror}.",
            hint="Run as the user that owns the data folder.",
        ) from error
    try:
        return msgspec.json.decode(data, type=_Stored)
    except msgspec.MsgspecError as error:
        raise CvxError(
            "InvalidInstanceFile",
            f"{path} is damaged: {error}.",
            hint="Restore it from a backup; removing it makes new keys and revokes the old ones.",
        ) from error


def _write(path: Path, name: str, secret: str) -> Instance:
    instance = Instance(name, secret, issue_admin_key(name, secret))
    text = msgspec.json.format(msgspec.json.encode(_Stored(name, secret, instance.admin_key)), indent=2)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CvxError(
            "DataFolderNotWritable",
            f"Cannot write {path}: {error.strerror}.",
            hint=f"Check the permissions and free space of {path.parent}, or pass another --data folder.",
        ) from error
    return instance
