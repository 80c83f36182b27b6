"""Which changes of a campaign Batch's rules allow, and which may send a push. Pure functions; the clock is an argument.

The rules are those of https://doc.batch.com/developer/api/mep/campaigns/update. What a server's refusal means is in
``hooks/answers.py``; here a change is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_batch.campaigns import PUSH_TIMES, overlaid
from airflow_batch.exceptions import BatchChangeRefusedError
from airflow_batch.payloads import FIRST_DATE, LAST_DATE, shown

FIRST_ZONE, LAST_ZONE = timedelta(hours=-14), timedelta(hours=12)
"""When a wall time comes in the first and in the last time zone, from the moment it comes in UTC."""


def check_identity(token: str, seen: Mapping[str, Any], expect_name: str | None) -> None:
    """Refuse a campaign that is another one than the task means, or not the API's to change.

    :raises BatchChangeRefusedError: for a name other than the expected one, or a campaign made in the dashboard.
    """
    name = seen.get("name")
    if expect_name is not None and name != expect_name:
        raise BatchChangeRefusedError(
            f"Campaign {token!r} is named {shown(name)}, not {expect_name!r} (expect_name). Nothing was sent. Correct "
            "the token, the app or expect_name."
        )
    if seen.get("from_api") is False:
        raise BatchChangeRefusedError(
            f"Campaign {token!r} ({shown(name)}) was made in Batch's dashboard, and Batch updates only campaigns "
            "created from the API. Nothing was sent. Change it in the dashboard, or create it from the API."
        )


def check_change(token: str, wanted: Mapping[str, Any], seen: Mapping[str, Any], now: datetime) -> str | None:
    """Refuse a change that Batch's rules forbid, and return a warning where they only probably do.

    Batch forbids to set a complete campaign live again, to remove a parameter, and to turn a recurring campaign into a
    one-time one (the notes below "Post data" on the update page).

    :param now: The present moment on Batch's clock.
    :raises BatchChangeRefusedError: for each of the three, the first where a one-time campaign's push time has passed.
    """
    removed = [
        name
        for name, value in wanted.items()
        if value is None and seen.get(name) is not None and not _takes_the_slot(name, wanted)
    ]
    if "recurrence" in removed:
        raise BatchChangeRefusedError(
            f"Campaign {token!r} is recurring, and Batch does not turn a recurring campaign into a one-time one. "
            "Nothing was sent. Leave recurrence out, or create a new campaign."
        )
    if removed:
        raise BatchChangeRefusedError(
            f"The change takes {', '.join(removed)} from campaign {token!r}, and Batch does not remove parameters. "
            "Nothing was sent. Leave them out of the payload, or create a new campaign."
        )
    if wanted.get("live") is not True:
        return None
    if seen.get("live") is True and _has_passed(seen, now):
        raise BatchChangeRefusedError(
            f"Campaign {token!r} is one-time, live, and its push time {seen['push_time']} UTC has passed: it is "
            "complete and cannot go live again. Nothing was sent. Create a new campaign."
        )
    after = overlaid(seen, wanted)
    if _has_passed(after, now):
        raise BatchChangeRefusedError(
            f"Campaign {token!r} is one-time and its push time {after['push_time']} UTC has passed, so it cannot go "
            "live. Nothing was sent. Give it a push_time in the future with BatchUpdateCampaignOperator (and in "
            "definition, where one is passed), or create a new campaign."
        )
    return _probably_finished(token, after, now)


def sends_by(payload: Mapping[str, Any], moment: datetime) -> bool:
    """Tell whether a write may send a push by ``moment``, so that it must not be repeated blindly.

    It does so unless it says that the campaign is not live, is recurring, or that its push time is later.
    """
    if payload.get("live") is False or payload.get("recurrence") is not None:
        return False
    local = read_moment(payload.get("local_push_time"))
    first_zone = None if local is None else local + FIRST_ZONE
    return payload.get("push_time") == "now" or any(
        time is not None and time <= moment for time in (read_moment(payload.get("push_time")), first_zone)
    )


def sends_after(seen: Mapping[str, Any], moment: datetime) -> bool:
    """Tell whether a campaign as seen has its push time after ``moment``, or only a local one."""
    time = read_moment(seen.get("push_time"))
    return seen.get("local_push_time") is not None if time is None else time > moment


def read_moment(value: Any) -> datetime | None:
    """Return a time that Batch wrote as an aware datetime, in UTC where it names no zone; None where it is not one.

    It is cut to the years 1900 to 9000, so that time can be added to it and taken from it.
    """
    try:
        moment = datetime.fromisoformat(value)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return min(max(moment, FIRST_DATE), LAST_DATE)
    except (ValueError, TypeError, OverflowError):
        return None


def _takes_the_slot(name: str, wanted: Mapping[str, Any]) -> bool:
    """Tell whether one push time gives way to the other, which is no removal."""
    return name in PUSH_TIMES and any(wanted.get(other) is not None for other in PUSH_TIMES - {name})


def _has_passed(campaign: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether a one-time campaign's push time has passed. With a recurrence or a trigger it does not matter."""
    if campaign.get("recurrence") is not None or "trigger" in campaign:
        return False
    moment = read_moment(campaign.get("push_time"))
    return moment is not None and moment <= now


def _probably_finished(token: str, campaign: Mapping[str, Any], now: datetime) -> str | None:
    recurrence = campaign.get("recurrence")
    end = read_moment(recurrence.get("end_date")) if isinstance(recurrence, Mapping) else None
    if end is not None and end <= now:
        return f"Campaign {token!r} is recurring and its end_date {end:%Y-%m-%d %H:%M:%S} UTC has passed."
    local = read_moment(campaign.get("local_push_time"))
    if recurrence is None and local is not None and local + LAST_ZONE <= now:
        return f"Campaign {token!r} has the local push time {campaign['local_push_time']}, passed in every time zone."
    return None
