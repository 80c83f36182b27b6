"""Plain and mapped tasks have the same retry defaults; what the user sets has priority, wherever it is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import DAG, TaskGroup

from airflow_batch._airflow import compat
from airflow_batch.operators.campaigns import BatchUpdateCampaignOperator
from airflow_batch.policies.retry import BatchRetryPolicy
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor

START = datetime(2026, 1, 1, tzinfo=UTC)


def plain_update(**arguments):
    return BatchUpdateCampaignOperator(task_id="t", campaign="abc", payload={"live": True}, **arguments)


def mapped_update(**arguments):
    return BatchUpdateCampaignOperator.partial(task_id="t", payload={"live": True}, **arguments).expand(
        campaign=["abc", "def"]
    )


def plain_sensor(**arguments):
    return BatchCampaignLiveSensor(task_id="t", campaign="abc", **arguments)


def mapped_sensor(**arguments):
    return BatchCampaignLiveSensor.partial(task_id="t", **arguments).expand(campaign=["abc", "def"])


ALL = pytest.mark.parametrize("make", [plain_update, mapped_update, plain_sensor, mapped_sensor])


def retry_arguments(task):
    backoff = task.retry_exponential_backoff
    return task.retries, task.retry_delay, 2.0 if backoff is True else backoff, task.max_retry_delay


@ALL
def test_every_task_and_what_a_mapped_task_expands_to_have_the_retry_defaults(make):
    with DAG("d", schedule=None, start_date=START):
        task = make()
    assert retry_arguments(task) == (6, timedelta(seconds=10), 2.0, timedelta(minutes=10))
    if compat.HAS_RETRY_POLICY:
        assert isinstance(task.retry_policy, BatchRetryPolicy)
    if hasattr(task, "unmap"):
        task = task.unmap({"campaign": "abc"})
        assert retry_arguments(task) == (6, timedelta(seconds=10), 2.0, timedelta(minutes=10))


@ALL
def test_retry_arguments_of_the_task_have_priority(make):
    with DAG("d", schedule=None, start_date=START, default_args={"retries": 1}):
        task = make(retries=0, retry_delay=timedelta(seconds=3), max_retry_delay=timedelta(seconds=9))
    assert (task.retries, task.retry_delay, task.max_retry_delay) == (0, timedelta(seconds=3), timedelta(seconds=9))


@ALL
def test_default_args_of_the_task_have_priority(make):
    with DAG("d", schedule=None, start_date=START):
        task = make(default_args={"retries": 2})
    assert (task.retries, task.retry_delay) == (2, timedelta(seconds=10))


@ALL
def test_default_args_of_the_dag_have_priority(make):
    with DAG("d", schedule=None, start_date=START, default_args={"retries": 1, "max_retry_delay": timedelta(hours=1)}):
        task = make()
    assert (task.retries, task.max_retry_delay) == (1, timedelta(hours=1))


@ALL
def test_default_args_of_task_groups_have_priority(make):
    with (
        DAG("d", schedule=None, start_date=START),
        TaskGroup("outer", default_args={"retries": 3}),
        TaskGroup("inner", default_args={"retry_delay": timedelta(seconds=4)}),
    ):
        task = make()
    assert (task.retries, task.retry_delay) == (3, timedelta(seconds=4))


@ALL
def test_the_retry_defaults_survive_serialisation(make):
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialized
    with DAG("d", schedule=None, start_date=START) as dag:
        make()
    task = Serialized.from_dict(Serialized.to_dict(dag)).get_task("t")
    assert retry_arguments(task) == (6, timedelta(seconds=10), 2.0, timedelta(minutes=10))


@pytest.mark.skipif(compat.HAS_RETRY_POLICY, reason="Airflow has retry policies from 3.3 on")
def test_a_retry_policy_is_not_passed_to_an_airflow_that_has_none():
    assert getattr(plain_update(), "retry_policy", None) is None
