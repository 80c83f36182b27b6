"""The table of assumptions, and the README tables that are made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import airflow_batch.sandbox
from airflow_batch.sandbox import Contract
from airflow_batch.sandbox.contract import FACTS, entries
from airflow_batch.sandbox.documented import DOCUMENTED
from airflow_batch.sandbox.readme import markdown

PACKAGE = Path(airflow_batch.sandbox.__file__).parent


def test_the_readme_has_the_tables_made_from_the_code():
    text = (PACKAGE / "README.md").read_text("utf-8")

    assert text.partition("<!-- tables: begin -->\n")[2].partition("\n<!-- tables: end -->")[0] == markdown()


def test_every_row_has_a_name_of_its_own_a_label_a_reason_and_what_would_replace_it():
    names = [entry.name for entry in entries()]

    assert sorted(names) == sorted(set(names))
    for entry in entries():
        assert entry.label in ("DOCUMENTED", "OBSERVED", "INFERRED", "UNKNOWN"), entry
        assert all((entry.does, entry.why, entry.replaced_by)), entry
        assert "|" not in f"{entry.does}{entry.why}{entry.replaced_by}{entry.choice}", entry


def test_documented_and_guessed_rows_are_kept_apart():
    assert {entry.label for entry in DOCUMENTED} == {"DOCUMENTED", "OBSERVED"}
    assert {entry.label for entry in FACTS} == {"INFERRED", "UNKNOWN"}


def test_every_choice_of_the_contract_is_used_by_the_sandbox():
    code = "".join(path.read_text("utf-8") for path in PACKAGE.glob("*.py") if path.name != "contract.py")

    assert [name for name in Contract.__dataclass_fields__ if f"contract.{name}" not in code] == []


@pytest.mark.parametrize(
    "choice",
    [
        {"unknown_token": "NOT_FOUND"},
        {"unknown_token": None},
        {"update_mode": "patch"},
        {"dev_key_view": False},
        {"dev_key_stats": "NOT_ALLOWED"},
        {"delete_success_body": "[]"},
        {"complete_by_push_time": "yes"},
        {"checks_order": ("route", "route", "throttle")},
    ],
    ids=str,
)
def test_a_contract_refuses_a_value_that_is_not_allowed(choice):
    with pytest.raises(ValueError, match=next(iter(choice))):
        Contract(**choice)
