"""How the matrix chooses its rows: which Python each runs on, and what the lowest one installs."""

from __future__ import annotations

from itertools import combinations

import matrix
import pytest
from environments import PYTHONS

REQUIRED = [row for row in matrix.rows() if row.required]


@pytest.mark.parametrize(
    "found", [some for size in (1, 2, 3) for some in combinations(PYTHONS, size)], ids=lambda some: "+".join(some)
)
def test_every_python_of_the_machine_runs_a_row_that_must_pass(found):
    # The row of constraints.txt is left out: make test chooses its Python by itself.
    used = {matrix.nearest(row.wished, found) for row in REQUIRED if row.tests != matrix.EVERYTHING}
    assert used == set(found)


def test_one_row_runs_the_whole_suite_and_only_the_newest_may_fail():
    names = [row.name for row in matrix.rows()]
    assert [row.name for row in REQUIRED] == names[:-1]
    assert names[-1] == "newest"
    assert [row.name for row in REQUIRED if row.tests == matrix.EVERYTHING] == names[:1]


def test_the_lowest_row_pins_every_bound_of_the_project_and_the_oldest_airflow():
    bounds = matrix.lower_bounds()
    assert {"apache-airflow", "pendulum", "pyyaml", "requests", "urllib3", "starlette", "uvicorn"} <= set(bounds)
    (row,) = [row for row in REQUIRED if row.name == "lowest"]
    pinned = dict(line.split("==") for line in row.constraints.splitlines())
    assert pinned | bounds == pinned
    assert pinned["apache-airflow"] == min((row.name for row in REQUIRED if row.name[0].isdigit()), key=matrix._numbers)


def test_what_has_no_bound_stays_as_it_was_that_day():
    assert matrix.lowest("alembic==1.18.4\npyyaml==6.0.3\n", {"pyyaml": "6.0.2"}) == "alembic==1.18.4\npyyaml==6.0.2\n"
