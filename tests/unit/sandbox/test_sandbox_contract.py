"""The table of what is known and guessed, the README made from it, and the wall around the room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_batch.sandbox
from airflow_batch.sandbox import Contract
from airflow_batch.sandbox.contract import FACTS, entries
from airflow_batch.sandbox.documented import DOCUMENTED
from airflow_batch.sandbox.readme import markdown

ROOM = Path(airflow_batch.sandbox.__file__).parent
FILES = sorted(ROOM.glob("*.py"))


def test_the_readme_has_the_tables_the_code_makes():
    text = (ROOM / "README.md").read_text("utf-8")

    assert text.partition("<!-- tables: begin -->\n")[2].partition("\n<!-- tables: end -->")[0] == markdown()


@pytest.mark.parametrize("entry", list(entries()), ids=lambda entry: entry.name)
def test_every_row_is_labelled_and_says_why_and_what_would_replace_it(entry):
    assert entry.label in ("DOCUMENTED", "OBSERVED", "INFERRED", "UNKNOWN")
    assert all((entry.does, entry.why, entry.replaced_by))
    assert "|" not in f"{entry.does}{entry.why}{entry.replaced_by}{entry.choice}"


def test_what_is_guessed_stands_in_the_contract_and_nowhere_else():
    assert {entry.label for entry in DOCUMENTED} == {"DOCUMENTED", "OBSERVED"}
    assert {entry.label for entry in FACTS} == {"INFERRED", "UNKNOWN"}


def test_every_row_has_a_name_of_its_own():
    names = [entry.name for entry in entries()]

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", list(Contract.__dataclass_fields__))
def test_every_choice_is_read_by_the_code(name):
    readers = [path for path in FILES if path.name != "contract.py" and f"contract.{name}" in path.read_text("utf-8")]

    assert readers


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
def test_a_choice_that_is_not_one_is_refused(choice):
    with pytest.raises(ValueError, match=next(iter(choice))):
        Contract(**choice)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_room_imports_nothing_of_airflow_and_nothing_of_the_other_rooms(path):
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }

    assert not {name for name in imported if name.split(".")[0] == "airflow"}
    assert all(name.startswith("airflow_batch.sandbox") for name in imported if name.startswith("airflow_batch"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400
