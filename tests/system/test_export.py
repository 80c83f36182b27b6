"""The example of an export on a real Airflow: into a DuckDB, throttled, restated, cleared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import canary
import duckdb
import pytest
from private_airflow import PrivateAirflow

from airflow_batch.sandbox import BatchSandbox, Fault

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
DATE = f"{YESTERDAY:%Y-%m-%d}"
EVENT = """
SELECT event.extra FROM asset_event AS event JOIN asset ON asset.id = event.asset_id
WHERE asset.name = 'batch_export' AND event.source_run_id = ?
"""


def campaign(name, **given):
    text = {"language": "en", "body": "Hi"}
    return {"name": name, "live": True, "push_time": f"{YESTERDAY:%Y-%m-%dT%H:%M:%S}", "messages": [text], **given}


class Exports:
    """An Airflow with the example, its runs, and what is in its database."""

    def __init__(self, airflow, sandbox, folder):
        self.airflow, self.sandbox, self.folder = airflow, sandbox, folder
        self.database = folder / "batch.duckdb"

    def run(self):
        run_id = self.airflow.trigger(
            "export_to_duckdb", {"folder": f"file://{self.folder}/batch", "database": str(self.database)}
        )
        assert self.airflow.wait_for_run("export_to_duckdb", run_id) == "success", self.log(run_id)
        return run_id

    def log(self, run_id):
        return self.airflow.task_log("export_to_duckdb", run_id, "export")

    def query(self, sql):
        with duckdb.connect(str(self.database), read_only=True) as database:
            return database.execute(sql).fetchall()


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    with BatchSandbox(rest_key=canary.REST_KEY, apps={"ios": canary.APP_KEYS, "android": {}}) as sandbox:
        connection = sandbox.connection("api_keys")
        connection["extra"] = {**connection["extra"], "requests_per_second": 200.0}
        airflow = PrivateAirflow(
            tmp_path_factory.mktemp("airflow"),
            dags=[EXAMPLES / f"export_{name}" for name in ("to_duckdb.py", "tables.sql", "views.sql")],
            connections={"batch_default": connection},
            config={"logging.logging_level": "DEBUG"},
        )
        airflow.env["PYTHONPATH"] += f":{EXAMPLES.parent / 'tests' / 'guard'}"
        with airflow.running():
            yield Exports(airflow, sandbox, tmp_path_factory.mktemp("export"))


def test_an_export_is_loaded_and_figures_that_batch_restates_replace_those_before(exports):
    sandbox = exports.sandbox
    variants = {"a": [{"language": "en", "body": "A"}], "b": [{"language": "en", "body": "B"}]}
    plain = sandbox.add_campaign(campaign("Soldes d'été"), app="ios")
    ab_test = sandbox.add_campaign(campaign("夏のセール", messages=variants), app="android")
    counts = {"sent": 100, "direct_open": 10, "influenced_open": 5}
    sandbox.set_stats(plain, [{"date": DATE, **counts}])
    sandbox.set_stats(ab_test, [{"date": DATE, **counts, "versions": {"a": {"sent": 60}, "b": {"sent": 40}}}])
    first = exports.run()
    sandbox.set_stats(plain, [{"date": DATE, **counts, "direct_open": 20}])
    second = exports.run()

    assert exports.query("SELECT app, name FROM newest_campaigns ORDER BY app") == [
        ("android", "夏のセール"),
        ("ios", "Soldes d'été"),
    ]
    assert exports.query("SELECT variant, body FROM newest_messages ORDER BY app, variant") == [
        ("a", "A"),
        ("b", "B"),
        (None, "Hi"),
    ]
    newest = "SELECT app, variant, sent, direct_open, open_rate FROM newest_stats ORDER BY app, variant"
    assert exports.query(newest) == [
        ("android", "a", 60, None, None),
        ("android", "b", 40, None, None),
        ("android", "total", 100, 10, 0.15),
        ("ios", "total", 100, 20, 0.25),
    ]
    assert exports.query("SELECT count(*) FROM batch_stats") == [(8,)]
    results = [exports.airflow.xcom("export_to_duckdb", run, "export") for run in (first, second)]
    assert [result["rows"]["stats"] for result in results] == [4, 4]
    (event,) = exports.airflow.query(EVENT, first)
    assert json.loads(event["extra"]).items() >= results[0].items()


def test_a_throttled_export_frees_its_slot_continues_and_uses_no_retry(exports):
    sandbox = exports.sandbox
    for number in range(8):
        sandbox.add_campaign(campaign(f"Campaign {number}"), app="ios")
    throttled = sandbox.tokens("ios")[5]
    sandbox.inject(Fault("answer", "view", status=429, headers={"Retry-After": "31"}, token=throttled))
    before = len(sandbox.requests)
    run = exports.run()
    (attempt,) = exports.airflow.tries("export_to_duckdb", run, "export")
    assert (attempt["try_number"], len(attempt["reschedules"])) == (1, 1)
    read = [record for record in sandbox.requests[before:] if record.operation == "stats" and record.status == 200]
    assert sorted(record.campaign_token for record in read) == sorted(sandbox.tokens())
    assert sorted(exports.query("SELECT DISTINCT campaign_token FROM newest_campaigns")) == sorted(
        (token,) for token in sandbox.tokens()
    )
    assert "An earlier attempt has read" in exports.log(run)
    assert [path for path in (exports.folder / "batch" / "_parts").rglob("*") if path.is_file()] == []


def test_a_cleared_export_reads_everything_anew_and_replaces_its_files(exports):
    run = exports.run()
    files = exports.airflow.xcom("export_to_duckdb", run, "export")["files"]
    count = len(list((exports.folder / "batch").rglob("*.jsonl")))
    new = exports.sandbox.add_campaign(campaign("New"), app="ios")
    exports.airflow.api(
        "POST",
        "/api/v2/dags/export_to_duckdb/clearTaskInstances",
        {"dry_run": False, "dag_run_id": run, "only_failed": False},
    )
    exports.airflow.wait_for_run("export_to_duckdb", run)
    again = exports.airflow.xcom("export_to_duckdb", run, "export")
    assert again["files"] == files
    assert new in Path(files["campaigns"].removeprefix("file://")).read_text()
    assert len(list((exports.folder / "batch").rglob("*.jsonl"))) == count


def test_no_key_is_in_files_logs_or_the_database_of_airflow(exports):
    for path in exports.folder.rglob("*"):
        if path.is_file():
            canary.assert_free(path.read_bytes().decode("latin-1"), path)
    for path, text in exports.airflow.all_logs():
        canary.assert_free(text, path)
    for table, column, text in exports.airflow.database_cells():
        canary.assert_free(text, f"{table}.{column}")
