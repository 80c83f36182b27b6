"""Shared by the tests of hostile input: the number of examples, what a message may contain, how much memory is allowed.

``FUZZ_EXAMPLES=5000 pytest tests/unit/test_hostile_*.py`` tries more examples, and others in each run; without it the
examples are always the same.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings

from airflow_batch.exceptions import BatchError

MAX_MESSAGE = 2_000
"""Characters of a message, which must not repeat the whole value that it refuses."""
REST = "rQx7v9Wz3Lk2pRestKey"
APP = "aZp4t8Rm6Yc1dAppKey0"


def examples(count: int) -> settings:
    """Return the settings of a property: so many examples, or those of the environment."""
    asked = os.environ.get("FUZZ_EXAMPLES")
    return settings(
        max_examples=int(asked or count),
        derandomize=not asked,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def assert_fit_to_show(error: BatchError | str) -> None:
    """Fail where a message is no use in a log: too long, unprintable, or with a key."""
    text = str(error)
    assert 10 < len(text) <= MAX_MESSAGE, text[:300]
    assert text.isprintable(), text[:300]
    shown = f"{text} {error!r} {getattr(error, '__dict__', '')!r}"
    assert not [piece for key in (REST, APP) for piece in (key[i : i + 6] for i in range(15)) if piece in shown], text


@contextmanager
def memory_below(megabytes: float) -> Iterator[None]:
    """Fail where Python takes more memory than that at any moment."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        peak = (tracemalloc.get_traced_memory()[1] - before) / 1e6
    finally:
        tracemalloc.stop()
    assert peak < megabytes, f"{peak:.0f} MB"
