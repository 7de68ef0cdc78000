"""What outlives a request: a row in a system table that says how far it is, and a worker that goes on from there."""

from cvx.backend.jobs.scheduler import Scheduler
from cvx.backend.jobs.transfers import Transfers

__all__ = ["Scheduler", "Transfers"]
