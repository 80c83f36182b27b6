"""Compare a campaign with what was sent, after Batch confirmed a write. Pure but for the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_batch._campaigns.approval import unapproved_after
from airflow_batch._campaigns.diff import Campaign
from airflow_batch._campaigns.plan import Send
from airflow_batch._campaigns.protocol import Log
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import check_lost, check_written
from airflow_batch.exceptions import BatchVerificationError


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


def check_sent(request: ChangeRequest, sent: Sent, seen: Campaign | None, unchecked: str, log: Log) -> str:
    """Compare what view shows with what was sent; return the end of the log line that says so.

    :param seen: None where the campaign was not read again.
    :param unchecked: Why not; empty where it cannot be read.
    :raises BatchParametersLostError: for a campaign that lacks what it had, and for a stopped one that had no
        messages before (rule 4).
    :raises BatchVerificationError: for a campaign that is not as written, or not as approved (rule 12).
    """
    token = request.token
    if seen is None:
        if sent.step.stops and sent.before is not None and not sent.before.get("messages"):
            check_lost(token, None, sent.before, sent.step.desired)
        return f"; checked: no ({unchecked or 'the campaign cannot be read'})"
    step = sent.step
    other = check_written(token, sent.before, seen, step.desired, at_once=step.at_once, is_new=step.is_new)
    if other:
        log.warning("Batch confirmed the write, but shows another %s than was sent.", ", ".join(other))
    if request.approval is not None and step.desired.get("live") is not False:
        why = unapproved_after(request.approval, token, seen, request.parameters)
        if why and not step.at_once:
            raise BatchVerificationError(why)
        if why:  # A push that went out is no error: it must not be repeated (rule 5).
            log.warning(why)
    return "" if other else " and shows it so, with nothing lost"
