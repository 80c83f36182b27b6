"""Which task of test_kills.py is killed when, and what it must have come to afterwards. Data; read by the DAGs too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task and the moment at which it is killed.

    ``writes``: how many of its requests took effect before that moment, and after it. ``changed``: what its result
    says; for the sync, of how many campaigns. ``unkept``: the same where Airflow keeps nothing between attempts, which
    is below 3.3. ``attempt``: which one succeeds.
    """

    task: str
    moment: str
    writes: tuple[int, int]
    changed: bool | int | None
    unkept: bool | int | None
    attempt: int = 2

    @property
    def name(self) -> str:
        """Of its task, and of its app: the sandbox tells by it whose request it sees."""
        return f"{self.task}_{self.moment}"


def each(
    moment: str,
    *tasks: str,
    writes: tuple[int, int],
    changed: bool | int | None,
    unkept: bool | int | None,
    attempt: int = 2,
) -> list[Case]:
    return [
        Case(task=task, moment=moment, writes=writes, changed=changed, unkept=unkept, attempt=attempt) for task in tasks
    ]


ALL = ("on", "off", "update", "delete", "create")

KILLED = [
    # The process of the task is killed before it has sent anything.
    *each("before_request", *ALL, writes=(0, 1), changed=True, unkept=True),
    # Batch has done it, but the answer has not come yet. An update may be repeated where nobody can look.
    *each("applied", *ALL, writes=(1, 0), changed=None, unkept=None),
    *each("applied", "blind_update", writes=(1, 1), changed=True, unkept=True),
    *each("applied", "sync", writes=(3, 2), changed=5, unkept=2),
    # The answer was read, but nothing is in XCom yet; and so once more in the second attempt.
    *each("before_xcom", *ALL, writes=(1, 0), changed=True, unkept=None),
    *each("before_xcom", "sync", writes=(5, 0), changed=5, unkept=0),
    *each("twice_before_xcom", *ALL, writes=(1, 0), changed=True, unkept=None, attempt=3),
    # Two campaigns are written and confirmed, the third is about to be.
    *each("between", "sync", writes=(2, 3), changed=5, unkept=3),
    # Killed before the request, and then after Batch has done what the second attempt asked for.
    *each("before_request_and_applied", "create", writes=(1, 0), changed=None, unkept=None, attempt=3),
    # As "applied", but the supervisor of the task's process is killed with it: only the missing heartbeat tells.
    *each("supervised", *ALL, writes=(1, 0), changed=None, unkept=None),
    # The supervisor alone is killed: the process goes on, and has nobody to tell what it did.
    *each("orphaned", *ALL, writes=(1, 0), changed=None, unkept=None),
]

RESTARTED = [
    # Scheduler, triggerer, workers and tasks are killed while the answer is awaited.
    *each("running", *ALL, writes=(1, 0), changed=None, unkept=None),
    *each("running", "sync", writes=(3, 2), changed=5, unkept=2),
    # Scheduler and triggerer are killed while the task waits for the end of a throttle.
    *each("rescheduled", *ALL, writes=(0, 1), changed=True, unkept=True, attempt=1),
    *each("rescheduled", "sync", writes=(2, 3), changed=5, unkept=3, attempt=1),
    # The first attempt was killed before the request; the second waits until it may conclude that from the list.
    *each("looking", "create", writes=(0, 1), changed=True, unkept=True),
]
