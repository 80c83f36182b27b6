"""Each public class names, types and documents its own arguments, and refuses wrong ones when the DAG is parsed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import DAG
from documents import CHECKOUT

from airflow_batch.calendars import LiveWindows
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor, BatchCampaignStatsSensor
from airflow_batch.windows import CampaignWindow

OPERATORS = {
    BatchSetCampaignLiveOperator: {"campaign": "abc", "live": True},
    BatchUpdateCampaignOperator: {"campaign": "abc", "payload": {"live": True}},
    BatchCreateCampaignOperator: {"payload": {"live": True}},
    BatchDeleteCampaignOperator: {"campaign": "abc"},
    BatchGetCampaignStatsOperator: {"campaign": "abc"},
    BatchSyncCampaignsOperator: {"campaigns": []},
}
SENSORS = {BatchCampaignLiveSensor: {"campaign": "abc"}, BatchCampaignStatsSensor: {"campaign": "abc"}}
TASKS = {**OPERATORS, **SENSORS}
COMMON = {
    **{cls: {"batch_conn_id", "app", "throttle", "max_wait"} for cls in OPERATORS},
    **{cls: {"batch_conn_id", "app", "mode", "poke_interval", "timeout", "deferrable"} for cls in SENSORS},
    SetCampaignLiveNotifier: {"batch_conn_id", "app"},
}
START = datetime(2026, 1, 1, tzinfo=UTC)
every_class = pytest.mark.parametrize("cls", COMMON, ids=lambda cls: cls.__name__)
every_task = pytest.mark.parametrize("cls", TASKS, ids=lambda cls: cls.__name__)
LIVE = (BatchSetCampaignLiveOperator, BatchCampaignLiveSensor, SetCampaignLiveNotifier)
every_live = pytest.mark.parametrize("cls", LIVE, ids=lambda cls: cls.__name__)


def parameters(cls):
    """Return the arguments that the ``__init__`` of this class names itself."""
    found = dict(inspect.signature(vars(cls)["__init__"]).parameters)
    del found["self"]
    return found


def plain(cls, **arguments):
    task_id = {} if cls is SetCampaignLiveNotifier else {"task_id": "t"}
    return cls(**{**task_id, **TASKS.get(cls, {"campaign": "abc"}), **arguments})


def mapped(cls, **arguments):
    """Return a task that is mapped over its apps."""
    return cls.partial(**{"task_id": "t", **TASKS[cls], **arguments}).expand(app=["ios", "android"])


@every_class
def test_a_class_names_all_of_its_arguments_and_takes_them_by_keyword_only(cls):
    found = parameters(cls)
    rest = found.pop("kwargs", None)
    assert COMMON[cls] < set(found)
    assert {parameter.kind for parameter in found.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert (rest is None) is (cls is SetCampaignLiveNotifier)
    hidden = {
        name
        for base in cls.__mro__[1:]
        if base.__module__.startswith("airflow_batch") and "__init__" in vars(base)
        for name in parameters(base)
    }
    assert hidden - {"kwargs"} <= set(found)


@every_class
def test_no_argument_may_be_anything(cls):
    loose = {name for name, parameter in parameters(cls).items() if "Any" in str(parameter.annotation)}
    assert loose <= {"kwargs"}


@every_class
def test_the_docstring_of_a_class_has_each_argument(cls):
    documented = re.findall(r"^:param (\w+):", inspect.getdoc(cls), re.M)
    assert sorted(documented) == sorted(set(parameters(cls)) - {"kwargs"})


@every_live
@pytest.mark.parametrize("live", ["maybe", "yes", "", None, 3])
def test_a_live_that_can_never_be_right_is_refused_when_the_dag_is_parsed(cls, live):
    with pytest.raises(BatchConfigurationError, match=r"live is .*Allowed are True, False, their text"):
        plain(cls, live=live)


@every_live
@pytest.mark.parametrize("live", ["true", "False", "{{ params.live }}", "{% if x %}true{% endif %}"])
def test_a_live_that_may_be_right_is_accepted_when_the_dag_is_parsed(cls, live):
    assert plain(cls, live=live).live == live


@every_live
def test_the_windows_of_a_calendar_are_refused_when_the_dag_is_parsed(cls):
    windows = LiveWindows((CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC"),))
    with pytest.raises(BatchConfigurationError, match="use BatchSyncCampaignsOperator"):
        plain(cls, live=windows)
    assert plain(cls, live=windows.windows[0]).live is windows.windows[0]


@pytest.mark.parametrize("make", [plain, mapped])
@pytest.mark.parametrize("cls", [BatchSetCampaignLiveOperator, BatchUpdateCampaignOperator])
def test_another_way_to_read_is_refused_when_the_dag_is_parsed(cls, make):
    with pytest.raises(BatchConfigurationError, match="read must be 'auto' or 'never', not 'always'"):
        make(cls, read="always")


@pytest.mark.parametrize("make", [plain, mapped])
@pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.__name__)
def test_another_throttle_is_refused_when_the_dag_is_parsed(cls, make):
    with pytest.raises(BatchConfigurationError, match="throttle must be 'reschedule' or 'retry', not 'never'"):
        make(cls, throttle="never")


@pytest.mark.parametrize("cls", SENSORS, ids=lambda cls: cls.__name__)
def test_another_mode_is_refused_when_the_dag_is_parsed(cls):
    with pytest.raises(Exception, match="The mode must be one of"):
        plain(cls, mode="sleep")


@pytest.mark.parametrize("cls", [BatchSetCampaignLiveOperator, BatchCampaignLiveSensor])
def test_a_live_that_can_never_be_right_is_refused_for_a_mapped_task_too(cls):
    with pytest.raises(BatchConfigurationError, match="live is 'maybe'"):
        mapped(cls, live="maybe")
    assert mapped(cls, live="{{ params.live }}")


@every_class
def test_a_misspelt_argument_is_refused_by_its_name(cls):
    with pytest.raises(TypeError, match="batch_con_id"):
        plain(cls, batch_con_id="other")


@every_task
def test_a_misspelt_argument_of_a_mapped_task_is_refused_by_its_name(cls):
    with pytest.raises(TypeError, match="batch_con_id"):
        mapped(cls, batch_con_id="other")


@every_task
@pytest.mark.parametrize("make", [plain, mapped])
def test_default_args_reach_the_arguments_of_a_class(cls, make):
    with DAG("d", schedule=None, start_date=START, default_args={"batch_conn_id": "other", "app": "ios"}):
        task = plain(cls, app="android") if make is plain else mapped(cls).unmap({"app": "android"})
    assert (task.batch_conn_id, task.app) == ("other", "android")


def test_mypy_finds_the_wrong_arguments_of_a_dag_and_no_other():
    pytest.importorskip("mypy", reason="mypy belongs to the development environment")
    dag = Path(__file__).with_name("typed_dag.py")
    # With the settings, and so the cache, of `make lint`.
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "setup.cfg", "--no-error-summary", str(dag)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line.split(":")[1]) for line in run.stdout.splitlines() if ": error: " in line}
    lines = enumerate(dag.read_text(encoding="utf-8").splitlines(), 1)
    assert found == {number for number, line in lines if line.endswith("# wrong")}, run.stdout + run.stderr
