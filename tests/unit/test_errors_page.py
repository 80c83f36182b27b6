"""docs/errors.md is made from the source of the exceptions; ``make lint`` checks the page itself."""

from __future__ import annotations

import errors_page
from documents import CHECKOUT

from airflow_batch import exceptions
from airflow_batch.exceptions import BatchError


def test_the_errors_page_has_every_exception_and_which_are_transient_or_throttled():
    known = {each.name: each for each in errors_page.failures((CHECKOUT / errors_page.EXCEPTIONS).read_text())}
    classes = {
        name: cls for name, cls in vars(exceptions).items() if isinstance(cls, type) and issubclass(cls, BatchError)
    }
    assert set(known) == set(classes)
    for name, cls in classes.items():
        assert known[name].transient is cls.transient, name
        assert known[name].throttled is getattr(cls, "throttled", False), name
