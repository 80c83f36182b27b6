"""Compare a campaign with what was sent, after Batch confirmed a write. Pure but for the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.plan import Send
from airflow_batch._campaigns.protocol import Log
from airflow_batch._campaigns.rules import check_lost, check_written


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A write that Batch confirmed.

    :param before: What view showed before it; None where the campaign cannot be read.
    """

    step: Send
    payload: Campaign
    before: Campaign | None
    status: int
    at: datetime


def check_sent(token: str, sent: Sent, seen: Campaign | None, unchecked: str, log: Log) -> str:
    """Compare what view shows with what was sent; return the end of the log line that says so.

    :param seen: None where the campaign was not read again.
    :param unchecked: Why not; empty where it cannot be read.
    :raises BatchParametersLostError: for a campaign that lacks what it had, and for a stopped one that had no
        messages before (rule 4).
    :raises BatchVerificationError: for a campaign that is not as written.
    """
    if seen is None:
        if sent.step.stops and sent.before is not None and not sent.before.get("messages"):
            check_lost(token, None, sent.before, sent.step.desired)
        return f"; checked: no ({unchecked or 'the campaign cannot be read'})"
    step = sent.step
    other = check_written(token, sent.before, seen, step.desired, at_once=step.at_once, is_new=step.is_new)
    if other:
        log.warning("Batch confirmed the write, but shows another %s than was sent.", ", ".join(other))
    return "" if other else " and shows it so, with nothing lost"
