"""Run a command where there is no network but the machine's own loopback: `scripts/offline.py COMMAND …`.

Linux only: a network namespace of its own, made with `unshare` (no root needed where users may have namespaces).
Exit code 75 when the machine does not allow that.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41
NOT_ALLOWED = 75
INSIDE = "CVX_OFFLINE_INSIDE"


def main() -> int:
    """Enter a namespace and come here again, inside; then bring loopback up and run the command."""
    if os.environ.get(INSIDE) != "1":
        enter = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
        try:
            allowed = subprocess.run([*enter, "true"], capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            allowed = False
        if not allowed:
            print("This machine does not let us make a network namespace.", file=sys.stderr)
            return NOT_ALLOWED
        os.execvpe("unshare", [*enter, sys.executable, __file__, *sys.argv[1:]], os.environ | {INSIDE: "1"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP_RUNNING))
    os.environ.pop(INSIDE)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
