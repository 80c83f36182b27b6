"""Exports to S3, for which moto's server stands in, with Airflow's own connection: `make test-s3`.

In an environment of its own, because botocore does not work with the python-dateutil of constraints.txt.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import boto3
import canary
import pytest
from moto.server import ThreadedMotoServer
from private_airflow import CHECKOUT, PrivateAirflow
from task import context_of

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch._sync import adaptive_rate
from airflow_batch.operators.export import BatchExportCampaignsOperator
from airflow_batch.sandbox import BatchSandbox, Fault

BUCKET = "marketing"
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "eu-west-3"}


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint):
    """An empty bucket."""
    found = boto3.resource("s3", endpoint_url=endpoint, **KEYS).Bucket(BUCKET)
    found.create(CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    yield found
    found.objects.delete()
    found.delete()


@pytest.fixture(scope="module")
def aws(endpoint):
    return {
        "conn_type": "aws",
        "login": KEYS["aws_access_key_id"],
        "password": KEYS["aws_secret_access_key"],
        "extra": {"endpoint_url": endpoint, "region_name": KEYS["region_name"]},
    }


@pytest.fixture
def sandbox():
    with BatchSandbox(rest_key=canary.REST_KEY, apps={"ios": canary.APP_KEYS, "android": {}}) as running:
        for app in ("ios", "android"):
            for number in range(6):
                text = {"language": "en", "body": "Hi"}
                running.add_campaign(
                    {"name": f"Été {number}", "live": True, "push_time": "now", "messages": [text]}, app=app
                )
        yield running


@pytest.fixture
def export(sandbox, aws, connect, monkeypatch):
    """Return a function that runs one attempt of an export to the bucket, each in the same run."""
    due = datetime.now(UTC)
    monkeypatch.setattr(adaptive_rate, "START", 500.0)
    connect(sandbox.connection("api_keys"))
    connect(aws, "aws_test")

    def run(**arguments):
        task = BatchExportCampaignsOperator(
            task_id="export", destination=f"s3://aws_test@{BUCKET}/batch", max_in_flight=1, **arguments
        )
        return task.execute(context_of(task, run_after=due))

    return run


def names(bucket):
    return sorted(found.key for found in bucket.objects.all())


def rows(bucket, key):
    return [json.loads(line) for line in bucket.Object(key).get()["Body"].read().splitlines()]


def test_the_example_writes_a_file_for_each_table_and_app(bucket, sandbox, aws, tmp_path):
    airflow = PrivateAirflow(
        tmp_path,
        dags=[CHECKOUT / "dags_examples/export_to_s3.py"],
        connections={"batch_default": sandbox.connection("api_keys"), "aws_default": aws},
    )
    airflow.env["PYTHONPATH"] += f":{CHECKOUT / 'tests' / 'guard'}"
    with airflow.running():
        run = airflow.trigger("export_to_s3")
        assert airflow.wait_for_run("export_to_s3", run) == "success"
        results = [airflow.xcom("export_to_s3", run, "export", index) for index in range(2)]
        for path, text in airflow.all_logs():
            canary.assert_free(text, path)
    urls = [url for result in results for url in result["files"].values()]
    assert sorted(urls) == [f"s3://{BUCKET}/{name}" for name in names(bucket)]
    assert [name.split("/")[:2] for name in names(bucket)] == [
        ["batch", table] for table in ("campaigns", "messages", "stats") for _ in range(2)
    ]
    for app in (0, 1):
        (key,) = [name for name in names(bucket) if name.startswith("batch/campaigns/") and f".{app}.csv" in name]
        assert bucket.Object(key).get()["Body"].read().decode().count("Été") == 6


def test_an_export_continues_from_its_parts_in_the_bucket_and_removes_them(bucket, sandbox, export):
    later = sandbox.tokens("ios")[4]
    sandbox.inject(Fault("answer", "view", status=429, headers={"Retry-After": "90"}, token=later))
    with pytest.raises(AirflowRescheduleException):
        export(apps="ios")
    assert {name.split("/")[1] for name in names(bucket)} == {"_parts"}
    result = export(apps="ios")
    assert result["requests"] == 2 + 2 * 2
    assert names(bucket) == [
        f"batch/{table}/{table}.dag.task.run.jsonl" for table in ("campaigns", "messages", "stats")
    ]
    for key in names(bucket):
        assert Counter(row["campaign_token"] for row in rows(bucket, key)) == Counter(sandbox.tokens("ios"))
        canary.assert_free(bucket.Object(key).get()["Body"].read().decode(), key)


def test_an_upload_that_fails_leaves_the_file_before(bucket, sandbox, export, monkeypatch):
    from s3fs import S3FileSystem

    export(apps="ios")
    before = rows(bucket, "batch/campaigns/campaigns.dag.task.run.jsonl")
    sandbox.add_campaign({"name": "New", "live": False, "messages": []}, app="ios")
    call, calls = S3FileSystem._call_s3, []

    async def refused(self, method, *arguments, **named):
        calls.append(method)
        if method == "put_object" and "campaigns/campaigns" in str(named.get("Key")):
            raise PermissionError("Access Denied")
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", refused)
    with pytest.raises(PermissionError):
        export(apps="ios")
    assert "put_object" in calls
    assert rows(bucket, "batch/campaigns/campaigns.dag.task.run.jsonl") == before
