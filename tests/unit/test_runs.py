"""What a DAG run means for a campaign: what should be live now, the moment that counts, how late the run is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk.api.datamodels._generated import DagRunType as TaskDagRunType
from airflow.utils.types import DagRunType as CoreDagRunType

from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.runs import lateness, name_index, present_moment, wanted_live
from airflow_batch.windows import CampaignWindow

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2030, 6, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")

TIMED = ["scheduled", "backfill", "asset_triggered", "asset_materialization"]
UNTIMED = ["manual", "operator_triggered"]
RUN_TYPES = [*TaskDagRunType, *CoreDagRunType]
# The same moment, three hours before NOON, written in several zones.
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
    return f"{type(run_type).__module__}.{run_type.name}"


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the worker's clock, which stands still; it is NOON until then."""

    def put(moment):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return moment.astimezone(tz)

        monkeypatch.setattr("airflow_batch.runs.datetime", Clock)

    put(NOON)
    return put


# ---------------------------------------------------------------------------------------------------------- name_index


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
def test_the_name_of_an_index_fits_the_column_of_airflows_database(app, name, shown):
    context = {}
    name_index(context, app, name)
    assert context["batch_index"] == shown


# ---------------------------------------------------------------------------------------------------------- wanted_live


@pytest.mark.parametrize("live", [True, False])
def test_a_boolean_is_wanted_as_it_is(live):
    assert wanted_live(live, {}) is live


@pytest.mark.parametrize(("text", "live"), [("True", True), ("true", True), ("False", False), (" FALSE\n", False)])
def test_rendered_text_is_read_as_a_boolean(text, live):
    assert wanted_live(text, {}) is live


@pytest.mark.parametrize("live", [None, 1, "", "maybe", "{{ params.live }}", [True]])
def test_anything_else_is_refused(live):
    with pytest.raises(BatchPayloadError, match="live must be true or false"):
        wanted_live(live, run(NOON))


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
def test_a_window_is_asked_about_this_moment(clock, now, live, context):
    clock(now)
    assert wanted_live(WINDOW, context) is live


@pytest.mark.parametrize(("hour", "live"), [(9, True), (18, False)])
def test_a_run_at_a_moment_of_change_changes_the_campaign_though_the_workers_clock_is_behind(clock, hour, live):
    change = NOON.replace(hour=hour)
    clock(change - SECOND)
    assert wanted_live(WINDOW, run(change)) is live


# ------------------------------------------------------------------------------------------------------- present_moment


@pytest.mark.parametrize("context", [{}, {"dag_run": None}, run(None)], ids=["no run", "null", "no moment"])
def test_without_a_runs_moment_it_is_this_moment(context):
    before = datetime.now(UTC)
    assert before <= present_moment(context) <= datetime.now(UTC)


@pytest.mark.parametrize("run_after", NINE, ids=str)
def test_after_the_runs_moment_it_is_this_moment(clock, run_after):
    assert present_moment(run(run_after)) == NOON


@pytest.mark.parametrize("run_after", NINE, ids=str)
def test_it_is_never_before_the_runs_moment(clock, run_after):
    clock(NINE[0] - SECOND)
    assert present_moment(run(run_after)) == NINE[0]


@pytest.mark.parametrize("now", [NINE[0] - SECOND, NOON], ids=["clock behind", "clock ahead"])
def test_it_is_in_utc_whatever_the_zone_of_the_runs_moment(clock, now):
    clock(now)
    assert present_moment(run(NINE[1])).tzinfo is UTC


@pytest.mark.parametrize(("fold", "minute"), [(0, 0), (1, 30)])
def test_an_hour_that_comes_twice_is_told_apart(clock, fold, minute):
    clock(datetime(2026, 10, 25, 1, tzinfo=UTC))
    run_after = datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=fold)
    assert present_moment(run(run_after)) == datetime(2026, 10, 25, 1, minute, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------------------- lateness


@pytest.mark.parametrize("run_type", TIMED)
def test_a_run_that_stands_for_a_moment_is_late_since_then(clock, run_type):
    assert lateness(run(NOON - timedelta(days=2, minutes=5), run_type)) == timedelta(days=2, minutes=5)


@pytest.mark.parametrize("run_type", [item for item in RUN_TYPES if item.value not in UNTIMED], ids=kind)
def test_airflows_own_type_of_such_a_run_is_known(clock, run_type):
    assert lateness(run(NOON - SECOND, run_type)) == SECOND


@pytest.mark.parametrize("run_type", [*UNTIMED, None, "", "unheard_of"], ids=repr)
def test_a_run_that_stands_for_no_moment_is_never_late(run_type):
    assert lateness(run(NINE[0], run_type)) is None


@pytest.mark.parametrize("run_type", [item for item in RUN_TYPES if item.value in UNTIMED], ids=kind)
def test_a_run_that_airflow_says_was_started_by_hand_is_never_late(run_type):
    assert lateness(run(NINE[0], run_type)) is None


@pytest.mark.parametrize("context", [{}, {"dag_run": None}, run(None)], ids=["no run", "null", "no moment"])
def test_without_a_runs_moment_nothing_is_late(context):
    assert lateness(context) is None


@pytest.mark.parametrize("run_after", NINE, ids=str)
def test_lateness_is_the_same_in_every_zone(clock, run_after):
    assert lateness(run(run_after)) == timedelta(hours=3)


def test_lateness_counts_through_a_change_of_the_clocks(clock):
    clock(datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    assert lateness(run(datetime(2026, 3, 29, 1, 30, tzinfo=PARIS))) == timedelta(hours=1)


@pytest.mark.parametrize("ahead", [timedelta(0), SECOND])
def test_a_run_is_never_early(clock, ahead):
    assert lateness(run(NOON + ahead)) == timedelta(0)
