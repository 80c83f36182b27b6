"""What the DAG run of a task decides: the desired state now, and until when it may send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk.api.datamodels._generated import DagRunType as TaskDagRunType
from airflow.utils.types import DagRunType as CoreDagRunType

from airflow_batch._airflow.task_context import run_after_of, set_map_index_name
from airflow_batch.operators._base import latest_moment
from airflow_batch.triggers._poll import live_now
from airflow_batch.windows import CampaignWindow

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2030, 6, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")

TIMED = ["scheduled", "backfill", "asset_triggered", "asset_materialization"]
UNTIMED = ["manual", "operator_triggered"]
RUN_TYPES = [*TaskDagRunType, *CoreDagRunType]
# The same time, three hours before NOON, in several zones.
NINE = [
    datetime(2030, 6, 3, 9, tzinfo=UTC),
    datetime(2030, 6, 3, 11, tzinfo=PARIS),
    datetime(2030, 6, 2, 22, tzinfo=timezone(timedelta(hours=-11))),
    pendulum.datetime(2030, 6, 3, 18, tz="Asia/Tokyo"),
]


def run(run_after, run_type="scheduled"):
    """The context of a task of such a run."""
    return {"dag_run": SimpleNamespace(run_after=run_after, run_type=run_type)}


def kind(run_type):
    return f"{type(run_type).__module__}.{getattr(run_type, 'name', run_type)}"


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the worker's clock, which does not advance; it is NOON until then."""

    def put(moment):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return moment.astimezone(tz)

        monkeypatch.setattr("airflow_batch.triggers._poll.datetime", Clock)

    put(NOON)
    return put


# --------------------------------------------------------------------------------------------------- set_map_index_name


@pytest.mark.parametrize(
    ("app", "name", "shown"),
    [
        ("ios", "Summer sale", "ios Summer sale"),
        (None, "Summer sale", "Summer sale"),
        ("ios", None, "ios"),
        ("ios", "x" * 1_000, "ios " + "x" * 196),
        ("i" * 300, "Summer sale", "i" * 200),
        (None, "a\0b\ud800c", "a\ufffdb\ufffdc"),
    ],
)
def test_the_name_of_a_mapped_task_fits_the_column_of_airflows_database(app, name, shown):
    context = {}
    set_map_index_name(context, app, name)
    assert context["batch_index"] == shown


# ------------------------------------------------------------------------------------------------------------- live_now


@pytest.mark.parametrize("live", [True, False])
def test_live_now_returns_a_boolean_unchanged(live):
    assert live_now(live, None) is live


@pytest.mark.parametrize(
    ("now", "live"),
    [
        (NOON, True),
        (NOON.replace(hour=20), False),
        (NOON.replace(hour=9) - SECOND, False),
        (NOON.replace(hour=9), True),
        (NOON.replace(hour=18) - SECOND, True),
        (NOON.replace(hour=18), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("context", [{}, run(NOON - timedelta(days=1))], ids=["no run", "yesterday's run"])
def test_live_now_evaluates_a_window_at_the_current_time(clock, now, live, context):
    clock(now)
    assert live_now(WINDOW, run_after_of(context)) is live


@pytest.mark.parametrize(("hour", "live"), [(9, True), (18, False)])
def test_a_run_at_the_time_of_a_change_applies_it_though_the_workers_clock_is_behind(clock, hour, live):
    change = NOON.replace(hour=hour)
    clock(change - SECOND)
    assert live_now(WINDOW, run_after_of(run(change))) is live


# --------------------------------------------------------------------------------------------------------- run_after_of


@pytest.mark.parametrize("context", [{}, {"dag_run": None}, run(None)], ids=["no run", "null", "no moment"])
def test_a_task_without_a_run_has_no_run_after_and_no_latest_time(context):
    assert run_after_of(context) is None
    assert latest_moment(context, timedelta(hours=1)) is None


@pytest.mark.parametrize("run_after", NINE, ids=str)
def test_run_after_is_returned_in_utc(run_after):
    assert (run_after_of(run(run_after)), run_after_of(run(run_after)).tzinfo) == (NINE[0], UTC)


@pytest.mark.parametrize(("fold", "hour"), [(0, 0), (1, 1)])
def test_run_after_in_a_repeated_hour_is_converted_by_its_fold(fold, hour):
    run_after = datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=fold)
    assert run_after_of(run(run_after)) == datetime(2026, 10, 25, hour, 30, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------------------- lateness


@pytest.mark.parametrize("run_type", [*TIMED, *(item for item in RUN_TYPES if item.value not in UNTIMED)], ids=kind)
def test_a_run_with_a_scheduled_time_may_send_until_max_lateness_after_it(run_type):
    assert latest_moment(run(NINE[1], run_type), timedelta(hours=1)) == NINE[0] + timedelta(hours=1)
    assert latest_moment(run(NINE[1], run_type), None) is None


@pytest.mark.parametrize(
    "run_type",
    [*UNTIMED, None, "", "unheard_of", *(item for item in RUN_TYPES if item.value in UNTIMED)],
    ids=kind,
)
def test_a_run_that_was_started_manually_or_has_no_scheduled_time_is_never_late(run_type):
    assert latest_moment(run(NINE[0], run_type), timedelta(0)) is None
