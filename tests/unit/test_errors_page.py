"""docs/errors.md is made from the exceptions, and every class is on it."""

from __future__ import annotations

import shutil

import errors_page
import pytest
from documents import CHECKOUT

from airflow_batch import exceptions
from airflow_batch.exceptions import BatchError


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the check reads, to change."""
    shutil.copytree(
        CHECKOUT / "airflow_batch", tmp_path / "airflow_batch", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "docs").mkdir()
    shutil.copy(CHECKOUT / errors_page.PAGE, tmp_path / errors_page.PAGE)
    return tmp_path


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_errors_page_and_python_agree_on_what_is_transient():
    known = {each.name: each for each in errors_page.failures((CHECKOUT / errors_page.EXCEPTIONS).read_text())}
    classes = {
        name: cls for name, cls in vars(exceptions).items() if isinstance(cls, type) and issubclass(cls, BatchError)
    }
    assert set(known) == set(classes)
    for name, cls in classes.items():
        assert known[name].transient is cls.transient, name
        assert known[name].throttled is getattr(cls, "throttled", False), name


def test_the_errors_page_agrees_with_the_exceptions(checkout):
    assert list(errors_page.disagreements(checkout)) == []


def test_an_exception_that_is_not_on_the_errors_page_is_a_problem(checkout):
    path = checkout / errors_page.EXCEPTIONS
    path.write_text(path.read_text() + '\n\nclass BatchNewError(BatchError):\n    """New."""\n')
    (problem,) = errors_page.disagreements(checkout)
    assert "HELP lacks BatchNewError" in problem


def test_an_exception_that_has_become_transient_makes_the_errors_page_wrong_until_it_is_written_again(checkout):
    change(
        checkout / errors_page.EXCEPTIONS,
        "class BatchSyncError(AirflowFailException, BatchError)",
        "class BatchSyncError(BatchStateError)",
    )
    (problem,) = errors_page.disagreements(checkout)
    assert "--write" in problem
    (checkout / errors_page.PAGE).write_text(errors_page.written(checkout))
    assert list(errors_page.disagreements(checkout)) == []


def test_a_message_that_the_package_does_not_have_any_more_is_a_problem(checkout):
    for path in (checkout / "airflow_batch").rglob("*.py"):
        path.write_text(path.read_text().replace("but lost", "but misses"))
    (problem,) = errors_page.disagreements(checkout)
    assert "but lost" in problem
    assert "BatchParametersLostError" in problem
