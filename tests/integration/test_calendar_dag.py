"""The DAG of a calendar file: what is in it, that it is the calendar's, and what an invalid calendar causes."""

from __future__ import annotations

import json
import runpy
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_batch.exceptions import BatchConfigurationError

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag

try:
    from airflow.serialization.serialized_objects import DagSerialization as Serialization
except ImportError:  # Airflow 3.1
    from airflow.serialization.serialized_objects import SerializedDAG as Serialization

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
DAG_FILE = """\
from airflow_batch.calendar_dag import campaign_calendar_dag

dag = campaign_calendar_dag("calendar.yaml", dag_id="airflow_sale"{})
"""
CALENDAR = """\
timezone: Europe/Paris
campaigns:
- name: Summer sale
  app: ios
  token: abc
  windows: [{on: "0 9 * * 1-5", off: "0 18 * * 1-5"}, {start: 2026-07-04T10:00, end: 2026-07-05T20:00}]
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that lets Airflow's own loader read a folder: (dag, import errors)."""

    def read(calendar=CALENDAR, arguments=""):
        (tmp_path / "sale.py").write_text(DAG_FILE.format(arguments))
        (tmp_path / "calendar.yaml").write_text(calendar)
        bag = DagBag(dag_folder=str(tmp_path))
        return bag.dags.get("airflow_sale"), "\n".join(map(str, bag.import_errors.values()))

    return read


def serialised(dag):
    return json.dumps(Serialization.to_dict(dag), sort_keys=True, default=str)


def test_a_calendar_dag_has_one_task_and_runs_at_each_change_and_every_15_minutes(load, tmp_path):
    dag, errors = load()
    assert errors == ""
    assert (dag.catchup, dag.max_active_runs, dag.task_ids) == (False, 1, ["sync"])
    assert Serialization.from_dict(Serialization.to_dict(dag)).timetable.summary == ("*/15 * * * *, 2 single moments")
    sync = dag.get_task("sync")
    assert (sync.calendar, sync.campaigns) == (str(tmp_path / "calendar.yaml"), None)
    assert (sync.batch_conn_id, sync.max_changes, sync.max_failures) == ("batch_default", None, 0)
    assert dag.fileloc == str(tmp_path / "sale.py")


def test_the_arguments_of_a_calendar_dag_are_passed_to_its_task_and_dag(load):
    dag, _ = load(
        arguments=", batch_conn_id='other', max_changes=5, max_failures=2, reconcile_every=None, tags=['x'],"
        "default_args={'owner': 'me'}, doc_md='Mine.'"
    )
    sync = dag.get_task("sync")
    assert (sync.batch_conn_id, sync.max_changes, sync.max_failures, sync.owner) == ("other", 5, 2, "me")
    assert dag.tags == {"x"}
    assert dag.doc_md.startswith("Mine.\n\nCampaigns of `calendar.yaml`")
    assert "*/15" not in serialised(dag)


def test_the_doc_md_of_a_calendar_dag_lists_the_campaigns_and_their_windows(load):
    dag, _ = load()
    assert "every 15 minutes" in dag.doc_md
    assert (
        "| Summer sale | ios | `abc` | on at 09:00, Monday through Friday (`0 9 * * 1-5`); off at 18:00, Monday "
        "through Friday (`0 18 * * 1-5`); or from 2026-07-04 10:00 (CEST +02:00) to 2026-07-05 20:00 (CEST "
        "+02:00) |"
    ) in dag.doc_md


def test_a_calendar_dag_changes_exactly_when_its_calendar_changes(load, a_month_passes):
    first = serialised(load()[0])
    a_month_passes()
    assert serialised(load("# a comment\n" + CALENDAR)[0]) == first
    for old, new in (
        ("Summer", "Winter"),
        ("ios", "android"),
        ("abc", "abd"),
        ("0 18", "0 17"),
        ("Paris", "Berlin"),
        ("  app: ios", "  app: ios\n  except_dates: [2026-12-25]"),
        ("  app: ios", "  app: ios\n  definition: {name: Summer sale}"),
    ):
        assert serialised(load(CALENDAR.replace(old, new))[0]) != first, new


@pytest.fixture
def a_month_passes():
    """Return a function that sets the clock to another month; needs time-machine."""
    time_machine = pytest.importorskip("time_machine")
    travels = []

    def travel():
        travels.append(time_machine.travel("2027-01-02T03:04:05Z", tick=True))
        travels[-1].start()

    yield travel
    for each in travels:
        each.stop()


def test_a_calendar_dag_changes_with_a_campaign_that_doc_md_does_not_list(load):
    rows = [
        f"- {{name: Sale {number}, token: t{number}, windows: [{{on: 0 9 * * *, off: 0 18 * * *}}]}}"
        for number in range(250)
    ]
    calendar = "\n".join(("timezone: UTC", "campaigns:", *rows))
    dag, _ = load(calendar)
    assert "And 50 more." in dag.doc_md
    assert "t199" in dag.doc_md
    assert "t200" not in dag.doc_md
    assert serialised(load(calendar.replace("t249", "t300"))[0]) != serialised(dag)


def test_an_invalid_calendar_is_an_import_error_with_file_and_line(load, tmp_path):
    dag, errors = load(CALENDAR.replace("0 18", "0 28"))
    assert dag is None
    assert f"{tmp_path / 'calendar.yaml'}, line 6: off='0 28 * * 1-5' is no cron" in errors


@pytest.mark.parametrize("argument", ["schedule='@daily'", "catchup=True", "max_active_runs=3"])
def test_an_argument_that_the_calendar_sets_is_refused(load, argument):
    dag, errors = load(arguments=f", {argument}")
    assert dag is None
    assert f"leave out {argument.split('=')[0]}." in errors


def test_a_reconcile_every_that_is_not_evenly_spaced_is_an_import_error(load):
    _, errors = load(arguments=", reconcile_every=__import__('datetime').timedelta(minutes=7)")
    assert "reconcile_every is datetime.timedelta(seconds=420)" in errors


def test_a_relative_path_of_a_calendar_is_relative_to_the_calling_file(load, tmp_path, monkeypatch):
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    dag, errors = load()
    assert errors == ""
    assert dag.get_task("sync").calendar == str(tmp_path / "calendar.yaml")


def test_a_calendar_dag_takes_an_absolute_path(tmp_path):
    from airflow_batch.calendar_dag import campaign_calendar_dag

    (tmp_path / "calendar.yaml").write_text(CALENDAR)
    dag = campaign_calendar_dag(tmp_path / "calendar.yaml", dag_id="sale", reconcile_every=timedelta(hours=1))
    assert dag.get_task("sync").calendar == str(tmp_path / "calendar.yaml")
    with pytest.raises(BatchConfigurationError, match=r"nowhere\.yaml: there is no such file"):
        campaign_calendar_dag(tmp_path / "nowhere.yaml", dag_id="sale")


def test_the_example_of_a_calendar_is_a_dag_of_five_campaigns(tmp_path):
    for file in EXAMPLES.glob("campaign_calendar.*"):
        shutil.copy(file, tmp_path)
    dag = runpy.run_path(str(tmp_path / "campaign_calendar.py"))["dag"]
    assert (dag.dag_id, dag.task_ids, dag.get_task("sync").max_changes) == ("campaign_calendar", ["sync"], 10)
    assert dag.doc_md.count("\n| ") == 6
    assert serialised(dag) == serialised(runpy.run_path(str(tmp_path / "campaign_calendar.py"))["dag"])
