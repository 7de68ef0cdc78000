"""When crons run next: pure functions of a schedule and a time, over months and leap years."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvx.backend.model.cron_times import check_expression, first_run, next_after_run, next_slot
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


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * 10**9


def shown(ts: int) -> str:
    assert ts % 10**9 == 0
    return datetime.fromtimestamp(ts // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        (HourlySchedule(minute=30), "2026-01-01T00:00:00", "2026-01-01T00:30:00"),
        (HourlySchedule(minute=30), "2026-01-01T00:30:00", "2026-01-01T01:30:00"),
        (HourlySchedule(minute=0), "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        (DailySchedule(hour=4, minute=5), "2026-02-28T04:05:00", "2026-03-01T04:05:00"),
        (DailySchedule(hour=4, minute=5), "2028-02-28T05:00:00", "2028-02-29T04:05:00"),
        (DailySchedule(hour=0, minute=0), "2026-10-25T00:00:00", "2026-10-26T00:00:00"),
        (WeeklySchedule(day_of_week=0, hour=3, minute=30), "2026-11-21T00:00:00", "2026-11-22T03:30:00"),
        (WeeklySchedule(day_of_week=6, hour=3, minute=30), "2026-11-21T03:30:00", "2026-11-28T03:30:00"),
        (WeeklySchedule(day_of_week=1, hour=0, minute=0), "2026-12-29T00:00:00", "2027-01-04T00:00:00"),
        (MonthlySchedule(day=1, hour=9, minute=0), "2026-12-01T09:00:00", "2027-01-01T09:00:00"),
        (MonthlySchedule(day=31, hour=9, minute=0), "2026-01-31T09:00:00", "2026-03-31T09:00:00"),
        (MonthlySchedule(day=29, hour=0, minute=0), "2027-01-29T00:00:00", "2027-03-29T00:00:00"),
        (MonthlySchedule(day=29, hour=0, minute=0), "2028-01-29T00:00:00", "2028-02-29T00:00:00"),
        (CronSchedule(expression="*/15 9-17 * * 1-5"), "2026-11-20T17:45:00", "2026-11-23T09:00:00"),
        (CronSchedule(expression="0 0 * * 0"), "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        (CronSchedule(expression="0 0 29 2 *"), "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        (CronSchedule(expression="30 4 L * ?"), "2026-02-01T00:00:00", "2026-02-28T04:30:00"),
        (CronSchedule(expression="0 12 * JAN,JUL MON#1"), "2026-01-05T12:00:00", "2026-07-06T12:00:00"),
    ],
)
def test_the_next_slot(schedule: Schedule, after: str, expected: str) -> None:
    assert shown(next_slot(schedule, at(after))) == expected
    assert first_run(schedule, at(after)) == at(expected)


def test_intervals_begin_at_once_and_keep_their_pace() -> None:
    every_90_s = IntervalSchedule(seconds=90)
    now = at("2026-11-21T01:02:03") + 123_456_789
    assert first_run(every_90_s, now) == now
    # The run was late and took a while: the pace is that of the slots.
    assert next_after_run(every_90_s, now, now + 5 * 10**9) == (now + 90 * 10**9, 0)


@pytest.mark.parametrize(
    ("schedule", "slot", "now", "following", "skipped"),
    [
        (IntervalSchedule(seconds=1), "2026-11-21T00:00:00", "2026-11-21T00:00:03", "2026-11-21T00:00:03", 2),
        (IntervalSchedule(seconds=60), "2026-11-21T00:00:00", "2026-11-28T00:00:01", "2026-11-28T00:01:00", 7 * 1440),
        (HourlySchedule(minute=5), "2026-11-21T00:05:00", "2026-11-21T05:00:00", "2026-11-21T05:05:00", 4),
        (DailySchedule(hour=4, minute=0), "2026-11-01T04:00:00", "2026-11-21T04:00:01", "2026-11-22T04:00:00", 20),
        (WeeklySchedule(day_of_week=0, hour=0, minute=0), "2026-11-01T00:00:00", "2026-11-21T00:00:00", "2026-11-22T00:00:00", 2),
        (MonthlySchedule(day=31, hour=0, minute=0), "2026-01-31T00:00:00", "2026-11-21T00:00:00", "2026-12-31T00:00:00", 5),
        (CronSchedule(expression="0 * * * *"), "2026-11-21T00:00:00", "2026-11-21T10:30:00", "2026-11-21T11:00:00", 10),
    ],
)  # fmt: skip
def test_what_went_by_is_counted_and_not_made_up_for(
    schedule: Schedule, slot: str, now: str, following: str, skipped: int
) -> None:
    found, count = next_after_run(schedule, at(slot), at(now))
    assert (shown(found), count) == (following, skipped)


def test_a_minute_s_cron_after_a_year_is_quick_and_right() -> None:
    following, skipped = next_after_run(
        CronSchedule(expression="* * * * *"), at("2025-11-21T00:00:00"), at("2026-11-21T00:00:30")
    )
    assert shown(following) == "2026-11-21T00:01:00"
    assert skipped == 10_000  # Counted no further.


moments = st.integers(at("1990-01-01T00:00:00") // 10**9, at("2090-01-01T00:00:00") // 10**9)


@given(moments, st.integers(0, 6), st.integers(0, 23), st.integers(0, 59))
def test_regular_slots_are_what_the_calendar_says(second: int, day: int, hour: int, minute: int) -> None:
    def matches(schedule: Schedule, moment: datetime) -> bool:
        ok = moment.minute == minute and moment.second == 0
        if isinstance(schedule, HourlySchedule):
            return ok
        ok = ok and moment.hour == hour
        return ok and (isinstance(schedule, DailySchedule) or moment.isoweekday() % 7 == day)

    spans: list[tuple[Schedule, timedelta]] = [
        (HourlySchedule(minute=minute), timedelta(hours=1)),
        (DailySchedule(hour=hour, minute=minute), timedelta(days=1)),
        (WeeklySchedule(day_of_week=day, hour=hour, minute=minute), timedelta(days=7)),
    ]
    before = datetime.fromtimestamp(second, timezone.utc)
    for schedule, period in spans:
        slot = datetime.fromtimestamp(next_slot(schedule, second * 10**9) // 10**9, timezone.utc)
        assert before < slot <= before + period
        assert matches(schedule, slot)


@given(moments, st.integers(1, 28))
def test_a_month_s_day_is_never_left_out(second: int, day: int) -> None:
    schedule = MonthlySchedule(day=day, hour=1, minute=2)
    slot = next_slot(schedule, second * 10**9)
    for _ in range(24):
        following = next_slot(schedule, slot)
        one, other = (datetime.fromtimestamp(ts // 10**9, timezone.utc) for ts in (slot, following))
        assert (other.year * 12 + other.month) - (one.year * 12 + one.month) == 1
        assert (other.day, other.hour, other.minute) == (day, 1, 2)
        slot = following


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 31 2 *", "day-of-month"),
        ("60 * * * *", "minute"),
        ("a b c d e", "minute"),
        ("0 0 31 4,6,9,11 *", "day-of-month"),
    ],
)
def test_expressions_that_say_nothing_are_refused(expression: str, why: str) -> None:
    with pytest.raises(CvxError, match=why) as refused:
        check_expression(expression)
    assert refused.value.code == "InvalidCron"
