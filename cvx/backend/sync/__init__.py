"""One client's WebSocket, and the updates that many of them need at one time."""

from cvx.backend.sync.driver import SyncDriver, SyncServices, SyncSocket

__all__ = ["SyncDriver", "SyncServices", "SyncSocket"]
