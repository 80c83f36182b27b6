"""Which task of test_kills.py is killed when, and how it must end. Data; the DAGs read it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task and the moment at which it is killed.

    ``writes``: how many of its requests took effect before that moment, and after it. ``changed``: what its result
    says; for a sync, of what an earlier attempt wrote. ``attempt``: which one succeeds. ``drafts``: how many campaigns
    remain besides the one of the result. All are those of Airflow 3.3 and later, which keeps what an attempt has sent.
    """

    task: str
    moment: str
    writes: tuple[int, int]
    changed: bool | None
    attempt: int = 2
    drafts: int = 0

    @property
    def name(self) -> str:
        """The id of its task, and the name of its app, by which the sandbox's requests are assigned to it."""
        return f"{self.task}_{self.moment}"


def each(moment: str, *tasks: str, **expected: Any) -> list[Case]:
    return [Case(task=task, moment=moment, **expected) for task in tasks]


CHANGES = ("on", "off", "update", "delete")
"""All tasks that change a campaign, for the moments at which what they send and read differs."""
ONE_OF_EACH = ("off", "delete")
"""A toggle and an update share all code; where Airflow alone makes the difference, one of them is enough."""

KILLED = [
    # The process of the task is killed before it has sent anything.
    *each("before_request", *ONE_OF_EACH, "create", writes=(0, 1), changed=True),
    *each("before_request", "launch", writes=(0, 2), changed=True),
    # Batch has applied it, but the answer has not come yet. A change that shows is not repeated; an update is repeated
    # where the campaign is not read, and a creation leaves one more draft.
    *each("applied", *CHANGES, writes=(1, 0), changed=None),
    *each("applied", "blind_update", writes=(1, 1), changed=True),
    *each("applied", "create", writes=(1, 1), changed=True, drafts=1),
    *each("applied", "launch", writes=(1, 2), changed=True, drafts=1),
    *each("applied", "sync", writes=(3, 2), changed=None),
    # Its draft is created and kept, and about to go live; and: it goes live, but the answer has not come yet.
    *each("drafted", "launch", writes=(1, 1), changed=True),
    *each("going_live", "launch", writes=(2, 0), changed=None),
    # The answer was read, but nothing is in XCom yet; and so once more in the second attempt.
    *each("before_xcom", *ONE_OF_EACH, "create", writes=(1, 0), changed=True),
    *each("before_xcom", "launch", writes=(2, 0), changed=True),
    *each("before_xcom", "sync", writes=(5, 0), changed=None),
    *each("twice_before_xcom", "on", "create", writes=(1, 0), changed=True, attempt=3),
    *each("twice_before_xcom", "launch", writes=(2, 0), changed=True, attempt=3),
    # Two campaigns are written and confirmed, the third is about to be.
    *each("between", "sync", writes=(2, 3), changed=None),
    # As "applied", but the supervisor of the task's process is killed with it: Airflow only sees the missing heartbeat.
    *each("supervised", "on", writes=(1, 0), changed=None),
    *each("supervised", "launch", writes=(1, 2), changed=True, drafts=1),
    # Only the supervisor is killed: the process continues, and cannot report its result.
    *each("orphaned", *ONE_OF_EACH, writes=(1, 0), changed=None),
]

RESTARTED = [
    # Scheduler, triggerer, workers and tasks are killed while the answer is awaited.
    *each("running", "on", "update", writes=(1, 0), changed=None),
    *each("running", "launch", writes=(1, 2), changed=True, drafts=1),
    *each("running", "sync", writes=(3, 2), changed=None),
    # Scheduler and triggerer are killed while the task waits for the end of a throttle.
    *each("rescheduled", "on", "delete", "create", writes=(0, 1), changed=True, attempt=1),
    *each("rescheduled", "launch", writes=(0, 2), changed=True, attempt=1),
    *each("rescheduled", "sync", writes=(2, 3), changed=None, attempt=1),
]
