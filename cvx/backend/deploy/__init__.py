"""The server's side of a push: analyse the code, work out what would change, put it in force in one step."""

from cvx.backend.deploy.push import PushService

__all__ = ["PushService"]
