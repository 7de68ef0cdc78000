"""Cron declarations as `crons.ts` exports them → the specs a push answers and stores.

Rule: pure. When a cron is due is worked out by `model/cron_times.py`.

Source: reference/runtime-and-database.md §6.4; cli-and-deploy.md §2.7.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cvx.backend.model.cron_times import check_expression
from cvx.errors import CvxError
from cvx.protocol.push import (
    CronSchedule,
    CronSpecJson,
    DailySchedule,
    HourlySchedule,
    IntervalSchedule,
    MonthlySchedule,
    NamedCronSpecJson,
    Schedule,
    WeeklySchedule,
)

_ARGS_BYTES = 1 << 20
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_UNIT_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
_cron_field = re.compile(r"[0-9A-Za-z*,/\-#?]+")


def named_cron_specs(text: str) -> list[NamedCronSpecJson]:
    """The specs in an export of crons.ts, in the order it has them.

    `text` is a JSON object from identifier to `{name, args, schedule}`. Raises CvxError "InvalidCron".
    """
    declared = msgspec.json.decode(text)
    if not isinstance(declared, dict):
        raise _invalid("crons.ts", "its export is not an object")
    return [_spec(identifier, item) for identifier, item in declared.items()]


def _spec(identifier: str, item: Any) -> NamedCronSpecJson:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or ":" not in item["name"]:
        raise _invalid(identifier, "it names no function")
    args = item.get("args")
    if not isinstance(args, list):
        raise _invalid(identifier, "its arguments are not an array")
    if len(msgspec.json.encode(args)) >= _ARGS_BYTES:
        raise _invalid(identifier, "its arguments have 1 MiB or more")
    schedule = _schedule(identifier, item.get("schedule"))
    return NamedCronSpecJson(
        identifier=identifier, spec=CronSpecJson(udf_path=item["name"], udf_args=args, cron_schedule=schedule)
    )


def _schedule(identifier: str, schedule: Any) -> Schedule:
    if not isinstance(schedule, dict):
        raise _invalid(identifier, "it has no schedule")
    kind = schedule.get("type")
    if kind == "interval":
        for unit, seconds in _UNIT_SECONDS.items():
            if unit in schedule:
                return IntervalSchedule(seconds=_whole(identifier, schedule, unit, 1, None) * seconds)
        raise _invalid(identifier, "its interval names neither seconds nor minutes nor hours")
    if kind == "cron":
        return CronSchedule(expression=_expression(identifier, schedule.get("cron")))
    minute = _whole(identifier, schedule, "minuteUTC", 0, 59, absent=0)
    if kind == "hourly":
        return HourlySchedule(minute=minute)
    hour = _whole(identifier, schedule, "hourUTC", 0, 23)
    if kind == "daily":
        return DailySchedule(hour=hour, minute=minute)
    if kind == "weekly":
        day = schedule.get("dayOfWeek")
        if day not in _DAYS:
            raise _invalid(identifier, f"'{day}' is not a day of the week")
        return WeeklySchedule(day_of_week=_DAYS.index(day), hour=hour, minute=minute)
    if kind == "monthly":
        return MonthlySchedule(day=_whole(identifier, schedule, "day", 1, 31), hour=hour, minute=minute)
    raise _invalid(identifier, f"'{kind}' is not a kind of schedule")


def _whole(
    identifier: str,
    schedule: dict[str, Any],
    name: str,
    least: int,
    most: int | None,
    *,
    absent: int | None = None,
) -> int:
    value = schedule.get(name, absent)
    whole = int(value) if type(value) is int or (type(value) is float and value.is_integer()) else None
    if whole is None or whole < least or (most is not None and whole > most):
        above = "" if most is None else f" to {most}"
        raise _invalid(identifier, f"{name} must be a whole number from {least}{above}, not {value}")
    return whole


def _expression(identifier: str, text: Any) -> str:
    fields = text.split() if isinstance(text, str) else []
    if len(fields) != 5 or not all(_cron_field.fullmatch(field) for field in fields):
        raise _invalid(identifier, f"'{text}' is not a cron expression of five fields")
    try:
        check_expression(str(text))
    except CvxError as error:
        raise _invalid(identifier, error.message.rstrip(".")) from None
    return str(text)


def _invalid(identifier: str, why: str) -> CvxError:
    return CvxError("InvalidCron", f'Cron "{identifier}" is not valid: {why}.', hint="Correct crons.ts.")
