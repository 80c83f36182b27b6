"""Which task of test_kills.py is killed when, and what it must have come to afterwards. Data; read by the DAGs too."""

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
        """Of its task, and of its app: the sandbox tells by it whose request it sees."""
        return f"{self.task}_{self.moment}"


def each(moment: str, *tasks: str, **expected: Any) -> list[Case]:
    return [Case(task=task, moment=moment, **expected) for task in tasks]


CHANGES = ("on", "off", "update", "delete")

KILLED = [
    # The process of the task is killed before it has sent anything.
    *each("before_request", *CHANGES, "create", writes=(0, 1), changed=True),
    *each("before_request", "launch", writes=(0, 2), changed=True),
    # Batch has done it, but the answer has not come yet. A change that shows is not made again; an update may be
    # repeated where nobody can look, and a creation leaves one draft more.
    *each("applied", *CHANGES, writes=(1, 0), changed=None),
    *each("applied", "blind_update", writes=(1, 1), changed=True),
    *each("applied", "create", writes=(1, 1), changed=True, drafts=1),
    *each("applied", "launch", writes=(1, 2), changed=True, drafts=1),
    *each("applied", "sync", writes=(3, 2), changed=None),
    # Its draft is created and kept, and about to go live; and: it goes live, but the answer has not come yet.
    *each("drafted", "launch", writes=(1, 1), changed=True),
    *each("going_live", "launch", writes=(2, 0), changed=None),
    # The answer was read, but nothing is in XCom yet; and so once more in the second attempt.
    *each("before_xcom", *CHANGES, "create", writes=(1, 0), changed=True),
    *each("before_xcom", "launch", writes=(2, 0), changed=True),
    *each("before_xcom", "sync", writes=(5, 0), changed=None),
    *each("twice_before_xcom", *CHANGES, "create", writes=(1, 0), changed=True, attempt=3),
    *each("twice_before_xcom", "launch", writes=(2, 0), changed=True, attempt=3),
    # Two campaigns are written and confirmed, the third is about to be.
    *each("between", "sync", writes=(2, 3), changed=None),
    # As "applied", but the supervisor of the task's process is killed with it: only the missing heartbeat tells.
    *each("supervised", *CHANGES, writes=(1, 0), changed=None),
    *each("supervised", "launch", writes=(1, 2), changed=True, drafts=1),
    # The supervisor alone is killed: the process goes on, and has nobody to tell what it did.
    *each("orphaned", *CHANGES, writes=(1, 0), changed=None),
]

RESTARTED = [
    # Scheduler, triggerer, workers and tasks are killed while the answer is awaited.
    *each("running", *CHANGES, writes=(1, 0), changed=None),
    *each("running", "launch", writes=(1, 2), changed=True, drafts=1),
    *each("running", "sync", writes=(3, 2), changed=None),
    # Scheduler and triggerer are killed while the task waits for the end of a throttle.
    *each("rescheduled", *CHANGES, "create", writes=(0, 1), changed=True, attempt=1),
    *each("rescheduled", "launch", writes=(0, 2), changed=True, attempt=1),
    *each("rescheduled", "sync", writes=(2, 3), changed=None, attempt=1),
]
