"""When a cron runs next: pure functions of its schedule and a time.

All times are UTC, in nanoseconds. A run that is due at a slot is followed by the first slot after it; slots that
went by unused are counted, so that they can be reported.

Rule: no clock. Whoever calls says what time it is.

Source: reference/runtime-and-database.md §6.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from cronsim import CronSim, CronSimError

from cvx.errors import CvxError
from cvx.protocol.push import (
    CronSchedule,
    DailySchedule,
    HourlySchedule,
    IntervalSchedule,
    MonthlySchedule,
    Schedule,
    WeeklySchedule,
)
from cvx.values import Timestamp

SECOND_NS = 1_000_000_000
COUNTED_SKIPS_MAX = 10_000
"""Above it, missed slots of a cron expression are counted no further (a minute's cron after a week of downtime)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def check_expression(expression: str) -> None:
    """Raise CvxError "InvalidCron" unless a cron expression can be read and matches some time."""
    try:
        next(_slots_of(expression, _EPOCH))
    except CronSimError as error:
        raise CvxError("InvalidCron", f"'{expression}' is not a cron expression: {error}.") from None
    except StopIteration:
        raise CvxError("InvalidCron", f"'{expression}' will never match any time.") from None


def first_run(schedule: Schedule, now: Timestamp) -> Timestamp:
    """When a new cron runs first: an interval at once, anything else at its next slot."""
    return now if isinstance(schedule, IntervalSchedule) else next_slot(schedule, now)


def next_slot(schedule: Schedule, after: Timestamp) -> Timestamp:
    """The first slot strictly after a slot (or, but for intervals, after any time)."""
    if isinstance(schedule, IntervalSchedule):
        return after + schedule.seconds * SECOND_NS
    if isinstance(schedule, CronSchedule):
        return _to_ns(next(_slots_of(schedule.expression, _to_datetime(after))))
    if isinstance(schedule, MonthlySchedule):
        return _to_ns(next(_monthly(schedule, _to_datetime(after))))
    period, offset = _regular(schedule)
    return ((after - offset) // period + 1) * period + offset


def next_after_run(schedule: Schedule, slot: Timestamp, now: Timestamp) -> tuple[Timestamp, int]:
    """The slot that follows a run at `slot`, and how many before it went by by `now`, which will not be made up for."""
    following = next_slot(schedule, slot)
    if following >= now:
        return following, 0
    if isinstance(schedule, (CronSchedule, MonthlySchedule)):
        skipped = 0
        while following < now:
            skipped += 1
            if skipped == COUNTED_SKIPS_MAX:
                return next_slot(schedule, now), skipped
            following = next_slot(schedule, following)
        return following, skipped
    period = schedule.seconds * SECOND_NS if isinstance(schedule, IntervalSchedule) else _regular(schedule)[0]
    skipped = -((following - now) // period)
    return following + skipped * period, skipped


_FIRST_SUNDAY = 3 * 86_400  # 1970-01-04.


def _regular(schedule: HourlySchedule | DailySchedule | WeeklySchedule) -> tuple[int, int]:
    """(period, offset from the epoch) in ns; UTC knows no summer time."""
    if isinstance(schedule, HourlySchedule):
        return 3_600 * SECOND_NS, schedule.minute * 60 * SECOND_NS
    of_day = (schedule.hour * 60 + schedule.minute) * 60
    if isinstance(schedule, DailySchedule):
        return 86_400 * SECOND_NS, of_day * SECOND_NS
    days = _FIRST_SUNDAY + schedule.day_of_week * 86_400
    return 7 * 86_400 * SECOND_NS, (days + of_day) * SECOND_NS


def _monthly(schedule: MonthlySchedule, after: datetime) -> Iterator[datetime]:
    """Months that have no such day are left out."""
    year, month = after.year, after.month
    while True:
        try:
            slot = datetime(year, month, schedule.day, schedule.hour, schedule.minute, tzinfo=timezone.utc)
        except ValueError:
            pass
        else:
            if slot > after:
                yield slot
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def _slots_of(expression: str, after: datetime) -> Iterator[datetime]:
    # "?" says that a day field does not matter.
    return CronSim(expression.replace("?", "*"), after)


def _to_datetime(ts: Timestamp) -> datetime:
    """Rounded down to whole seconds: slots are at whole minutes."""
    return _EPOCH + timedelta(seconds=ts // SECOND_NS)


def _to_ns(moment: datetime) -> Timestamp:
    return int((moment - _EPOCH).total_seconds()) * SECOND_NS
