"""Which changes of a campaign are allowed, which send a push, and what must show after. Pure; clocks are arguments.

The numbers of the rules are those of docs/rules.md. Where Batch documents one, the page is named:
https://doc.batch.com/developer/api/mep/campaigns/update ("update page").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_batch._campaigns.diff import PUSH_TIMES, Campaign, differences, lost_parameters, read_moment, same_name
from airflow_batch._campaigns.protocol import Schedule
from airflow_batch._values import short_repr
from airflow_batch.exceptions import (
    BatchApiError,
    BatchChangeRefusedError,
    BatchClockError,
    BatchNotVisibleError,
    BatchParametersLostError,
    BatchVerificationError,
)

SETTLE_TIME = timedelta(minutes=2)
"""How long a request without an answer may still take effect (UNKNOWN; twice the time that a request may take)."""
MAX_CLOCK_GAP = timedelta(minutes=5)
"""Difference between the worker's clock and Batch's above which a window they disagree about is not opened."""
FIRST_TIME_ZONE, LAST_TIME_ZONE = timedelta(hours=-14), timedelta(hours=12)
"""When a local time comes in the first and in the last time zone, from the moment it comes in UTC."""


@dataclass(frozen=True)
class Clocks:
    """The present moment by the worker's clock and by Batch's ``Date``; the same one where Batch named none."""

    ours: datetime
    batch: datetime

    @property
    def later(self) -> datetime:
        """The moment that counts against sending: either clock suffices to refuse (rule 3)."""
        return max(self.ours, self.batch)

    def __str__(self) -> str:
        return f"{self.ours:%Y-%m-%d %H:%M:%S} UTC by this worker, {self.batch:%Y-%m-%d %H:%M:%S} UTC by Batch"


def live_now(
    live: bool | Schedule, clocks: Clocks, run_after: datetime | None, token: str
) -> tuple[bool, BatchClockError | None]:
    """Return what ``live`` should be now, and the error that a task must end with where the clocks disagree (rule 3).

    "Now" is never before the run's own ``run_after``: a worker's clock may be behind the scheduler's.

    :raises BatchClockError: where the clocks disagree about whether a window has opened yet.
    """
    if isinstance(live, bool):
        return live, None
    moments = sorted((clocks.ours, clocks.batch))
    first, last = moments if run_after is None else [max(run_after, moment) for moment in moments]
    by_first, by_last = live.is_live_at(first), live.is_live_at(last)
    if by_first is by_last:
        return by_last, None
    if last - first <= MAX_CLOCK_GAP:
        return False, None
    error = BatchClockError(
        f"The clocks disagree about the window of campaign {token!r}: it is {clocks}. "
        f"{'Nothing was sent.' if by_last else 'The campaign is stopped.'} Correct the worker's clock, or what sets "
        "the Date header in front of Batch."
    )
    if by_last:
        raise error
    return False, error


def may_have_flipped(live: bool | Schedule | None, run_after: datetime | None, now: datetime) -> bool:
    """Return whether the desired state may have been another one since the run's first attempt."""
    if live is None or isinstance(live, bool):
        return False
    changes = getattr(live, "changes", None)
    if changes is None or run_after is None:
        return True
    change = next(iter(changes(run_after)), None)
    return change is not None and change[0] <= now


def names_agree(seen: Campaign | None, expect_name: str | None, renamed_to: Any = None) -> bool | None:
    """Return whether a campaign has the expected name, or ``renamed_to`` (rule 2); None where it cannot be compared."""
    if seen is None or not isinstance(seen.get("name"), str) or not expect_name:
        return None
    return any(same_name(seen["name"], name) for name in (expect_name, renamed_to))


def other_name_error(token: str, seen: Campaign, expect_name: str | None) -> BatchChangeRefusedError:
    """Return the error for a campaign with another name (rule 2)."""
    return BatchChangeRefusedError(
        f"Campaign {token!r} is named {short_repr(seen.get('name'))}, not {expect_name!r} (expect_name). Nothing was "
        "sent. Correct the token, the app or expect_name."
    )


def check_change(token: str, seen: Campaign, desired: Campaign) -> None:
    """Refuse an "on" or an update that Batch does not take, or that would lose something (rules 2 and 4).

    :raises BatchChangeRefusedError: for a campaign that was made in the dashboard or is without messages, and for what
        the update page forbids: to remove a parameter, and to make a recurring campaign one-time.
    """
    why = advice = None
    replaced = PUSH_TIMES if any(desired.get(name) is not None for name in PUSH_TIMES) else ()
    removed = [
        name for name, value in desired.items() if value is None and seen.get(name) is not None and name not in replaced
    ]
    if seen.get("from_api") is False:
        why = "it was made in Batch's dashboard, and Batch updates only campaigns created from the API"
        advice = "Change it in the dashboard, or create it from the API"
    elif not seen.get("messages"):
        why = "Batch shows it without messages"
        advice = "Restore it in Batch's dashboard or with BatchUpdateCampaignOperator and read='never'"
    elif is_recurring(seen) and ("recurrence" in removed or desired.get("recurrence") == {}):
        why = "it is recurring, and Batch does not turn a recurring campaign into a one-time one"
        advice = "Leave recurrence out, or create a new campaign"
    elif removed:
        why = f"the change removes {', '.join(removed)}, and Batch does not remove parameters"
        advice = "Leave them out of the payload, or create a new campaign"
    if why:
        raise BatchChangeRefusedError(f"Campaign {token!r} is not changed: {why}. Nothing was sent. {advice}.")


def is_recurring(campaign: Campaign) -> bool:
    """Return whether a campaign is recurring: Batch may show null, ``[]`` or ``{}`` for none."""
    return isinstance(campaign.get("recurrence"), Mapping) and bool(campaign["recurrence"])


def is_one_time(campaign: Campaign) -> bool:
    """Return whether a campaign is neither recurring nor a trigger automation, whose ``trigger`` may be empty."""
    return not is_recurring(campaign) and not isinstance(campaign.get("trigger"), Mapping | list)


def push_has_passed(payload: Campaign, now: datetime) -> bool:
    """Return whether a payload would leave a one-time campaign live whose push time has passed (rule 3)."""
    moment = read_moment(payload.get("push_time"))
    return payload.get("live") is not False and moment is not None and moment <= now and is_one_time(payload)


def passed_error(token: str, payload: Campaign, *, complete: bool) -> BatchChangeRefusedError:
    """Return the error for a push time that has passed (rule 3). Source: the update page, "complete"."""
    state = "it is complete and cannot go live again" if complete else "it cannot go live"
    return BatchChangeRefusedError(
        f"Campaign {token!r} is one-time and its push time {payload['push_time']} UTC has passed: {state}. Nothing was "
        "sent. Give it a push_time in the future with BatchUpdateCampaignOperator, or create a new campaign."
    )


def push_moment(payload: Campaign, now: datetime) -> datetime | None:
    """Return when a payload's one push goes out, None where it sends none or its moment cannot be known (rule 5).

    ``push_time: "now"`` is now. A ``local_push_time`` begins in the first time zone.
    """
    if payload.get("live") is False:
        return None
    if payload.get("push_time") == "now":
        return now
    if not is_one_time(payload):
        return None
    local = read_moment(payload.get("local_push_time"))
    return read_moment(payload.get("push_time")) or (None if local is None else local + FIRST_TIME_ZONE)


def finished_warning(token: str, campaign: Campaign, now: datetime) -> str | None:
    """Return a warning where a campaign that would be live has probably ended everywhere (rule 3)."""
    if campaign.get("live") is False:
        return None
    recurrence = campaign.get("recurrence")
    end = read_moment(recurrence.get("end_date")) if isinstance(recurrence, Mapping) else None
    local = read_moment(campaign.get("local_push_time"))
    if end is not None and end <= now:
        ended = f"is recurring and its end_date {end:%Y-%m-%d %H:%M:%S} UTC has passed"
    elif not is_recurring(campaign) and local is not None and local + LAST_TIME_ZONE <= now:
        ended = f"has the local push time {campaign['local_push_time']}, passed in every time zone"
    else:
        return None
    return f"Campaign {token!r} {ended}. Whether Batch sets it live again is not known."


def check_written(
    token: str, before: Campaign | None, seen: Campaign, desired: Campaign, *, at_once: bool, is_new: bool
) -> list[str]:
    """Compare what view shows after a confirmed write with what was written; return the parameters that differ.

    :param before: What view showed before it; None where it was not read.
    :param at_once: A push that went out at once is never an error, for it must not be repeated (rule 5).
    :param is_new: There was nothing to lose.
    :raises BatchParametersLostError: as for :func:`check_lost`.
    :raises BatchVerificationError: for a campaign that is not as written.
    """
    if not is_new:
        check_lost(token, before, seen, desired)
    other = differences(desired, seen)
    unchanged = before is not None and other == differences(desired, before)
    if other and not at_once and ("live" in other or unchanged):
        raise BatchVerificationError(
            f"Batch confirmed the update of campaign {token!r}, but does not show it {describe(desired)}: "
            f"{', '.join(f'{name} is {seen.get(name)!r}' for name in other)[:300]}."
        )
    return other


def check_lost(token: str, before: Campaign | None, seen: Campaign, desired: Campaign) -> None:
    """Compare a campaign with what it was before a write. Each campaign has a name and messages.

    :raises BatchParametersLostError: for one that lacks what it had.
    """
    lost = [] if before is None else lost_parameters(before, seen, desired)
    lost += [name for name in ("name", "messages") if not seen.get(name) and name not in lost]
    if lost:
        raise BatchParametersLostError(
            f"Campaign {token!r} is {describe(desired)}, but lost {', '.join(lost[:20])} by a write. Send them again "
            "with BatchUpdateCampaignOperator, or restore the campaign in the dashboard."
        )


def title_of(token: str, name: Any, app: str | None) -> str:
    """Return how a log line names a campaign."""
    about = [repr(name)] if isinstance(name, str) else []
    about += [f"app {app!r}"] if app else []
    return f"Campaign {token!r}" + (f" ({', '.join(about)})" if about else "")


def describe(desired: Campaign) -> str:
    """Return in words what a change makes of a campaign."""
    others = [name for name in desired if name != "live"]
    live = ["live" if desired["live"] else "not live"] if "live" in desired else []
    return ", ".join(live + ([f"updated in {', '.join(others)}"] if others else []))


def not_visible(error: BatchApiError) -> BatchNotVisibleError:
    """Return the error for a campaign that view does not know, which may be a new one."""
    return BatchNotVisibleError(f"{error.message} A new campaign may take a while to show.", **error.details)
