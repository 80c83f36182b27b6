"""When a campaign should be live, and that Airflow runs the DAG exactly when that changes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_batch._airflow.crons import PRESETS
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.triggers._poll import LivePoll, Reference, read_poll
from airflow_batch.windows import CampaignWindow

PARIS = "Europe/Paris"
OFFICE = {"on": "0 9 * * 1-5", "off": "0 18 * * 1-5", "timezone": PARIS}


def paris(*parts):
    return pendulum.datetime(*parts, tz=PARIS)


def refusal(**arguments):
    arguments = {"timezone": "UTC", **arguments}
    with pytest.raises(BatchConfigurationError) as caught:
        CampaignWindow(**arguments)
    return str(caught.value)


def short_repr(changes, zone=PARIS):
    return [(moment.in_timezone(zone).format("YYYY-MM-DD HH:mm Z"), live) for moment, live in changes]


def fires(window, after, count):
    """Yield the times at which Airflow runs a DAG with the window's timetable."""
    from airflow.timetables.base import DataInterval, TimeRestriction

    timetable = window.timetable()
    unrestricted = TimeRestriction(earliest=None, latest=None, catchup=True)
    moment = pendulum.instance(after)
    for _ in range(count):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=DataInterval.exact(moment), restriction=unrestricted
        )
        moment = info.run_after
        yield moment


def fires_of_a_day(window, *day):
    midnight = pendulum.datetime(*day, tz=window.timezone)
    moments = (moment.in_timezone(window.timezone) for moment in fires(window, midnight.subtract(days=3), 300))
    return [moment.format("HH:mm Z") for moment in moments if moment.date() == midnight.date()]


# ---------------------------------------------------------------------------------------------------------- on and off


@pytest.mark.parametrize(
    ("moment", "live"),
    [
        (paris(2026, 6, 1, 8, 59, 59, 999999), False),
        (paris(2026, 6, 1, 9), True),
        (paris(2026, 6, 1, 17, 59, 59, 999999), True),
        (paris(2026, 6, 1, 18), False),
        (paris(2026, 6, 6, 12), False),
    ],
)
def test_a_window_is_live_from_on_until_before_off(moment, live):
    assert CampaignWindow(**OFFICE).is_live_at(moment) is live


def test_a_window_may_be_evaluated_at_any_aware_datetime():
    window = CampaignWindow(**OFFICE)
    assert window.is_live_at(datetime(2026, 6, 1, 7, tzinfo=UTC))
    assert window.is_live_at(datetime(2026, 6, 1, 3, tzinfo=ZoneInfo("America/New_York")))
    assert not window.is_live_at(pendulum.datetime(2026, 6, 1, 6, 59))


def test_a_window_is_off_where_on_and_off_are_at_the_same_time():
    window = CampaignWindow(on="0 9 * * *", off="0 9 * * 1", timezone="UTC")
    assert not window.is_live_at(pendulum.datetime(2026, 6, 1, 9))
    assert window.is_live_at(pendulum.datetime(2026, 6, 2, 9))


def test_next_changes_returns_so_many_changes_after_the_given_time():
    assert short_repr(CampaignWindow(**OFFICE).next_changes(paris(2026, 6, 5, 9), 3)) == [
        ("2026-06-05 18:00 +02:00", False),
        ("2026-06-08 09:00 +02:00", True),
        ("2026-06-08 18:00 +02:00", False),
    ]


def test_repeated_times_of_on_are_one_change():
    window = CampaignWindow(on="*/10 9-11 * * *", off="0 20 * * *", timezone="UTC")
    assert short_repr(window.next_changes(pendulum.datetime(2026, 6, 1), 2), "UTC") == [
        ("2026-06-01 09:00 +00:00", True),
        ("2026-06-01 20:00 +00:00", False),
    ]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_window_accepts_the_cron_presets_of_airflow(preset):
    from airflow.utils.dates import cron_presets

    assert cron_presets == PRESETS
    window = CampaignWindow(on=preset, off="30 12 * * *", timezone="UTC")
    assert [live for _, live in window.next_changes(pendulum.datetime(2026, 1, 2), 2)] in ([False, True], [True, False])


# --------------------------------------------------------------------------------------------- daylight-saving time


def test_a_time_skipped_by_daylight_saving_is_as_much_later():
    window = CampaignWindow(on="30 2 * * *", off="0 18 * * *", timezone=PARIS)
    assert short_repr(window.next_changes(paris(2026, 3, 28, 20), 1)) == [("2026-03-29 03:30 +02:00", True)]
    assert fires_of_a_day(window, 2026, 3, 29) == ["03:30 +02:00", "18:00 +02:00"]


def test_a_time_repeated_by_daylight_saving_counts_the_second_time_only():
    window = CampaignWindow(on="30 2 * * *", off="0 18 * * *", timezone=PARIS)
    assert short_repr(window.next_changes(paris(2026, 10, 24, 20), 1)) == [("2026-10-25 02:30 +01:00", True)]
    assert not window.is_live_at(datetime(2026, 10, 25, 0, 45, tzinfo=UTC))
    assert fires_of_a_day(window, 2026, 10, 25) == ["02:30 +01:00", "18:00 +01:00"]


def test_hourly_crons_run_in_both_of_the_repeated_hours():
    window = CampaignWindow(on="0 * * * *", off="30 * * * *", timezone=PARIS)
    assert short_repr(window.next_changes(datetime(2026, 10, 24, 23, 45, tzinfo=UTC), 4)) == [
        ("2026-10-25 02:00 +02:00", True),
        ("2026-10-25 02:30 +02:00", False),
        ("2026-10-25 02:00 +01:00", True),
        ("2026-10-25 02:30 +01:00", False),
    ]


@pytest.mark.parametrize(
    ("on", "off", "only_fire"),
    [("15 2 * * *", "30 2 * * *", "03:15 +02:00"), ("30 2 * * *", "0 3 * * *", "03:00 +02:00")],
)
def test_a_window_does_not_open_where_airflow_skips_its_off_as_the_clocks_go_forward(on, off, only_fire):
    window = CampaignWindow(on=on, off=off, timezone=PARIS)
    assert fires_of_a_day(window, 2026, 3, 29) == [only_fire]
    assert not any(window.is_live_at(paris(2026, 3, 29).add(minutes=15 * quarter)) for quarter in range(4 * 23))


def test_an_hourly_cron_of_some_days_follows_the_wall_clock_over_a_change_of_the_clocks():
    window = CampaignWindow(on="30 * 1 * *", off="0 9 1 * *", timezone=PARIS)
    assert (paris(2026, 4, 1, 0, 30), True) not in window.next_changes(paris(2026, 3, 1, 12), 5)  # live since March
    assert next(fires(window, paris(2026, 3, 1, 23, 30), 1)) == paris(2026, 4, 1, 0, 30)


# ------------------------------------------------------------------------------------------------- the runs of Airflow

ZONES = [
    PARIS,
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kathmandu",
    "America/Sao_Paulo",  # at midnight, until 2019
    "America/Havana",  # midnight comes twice
    "Africa/Casablanca",  # the other way round, in Ramadan
    "Pacific/Apia",  # a day left out in 2011
    "UTC",
]
CALM = [datetime(2024, 2, 29, tzinfo=UTC), datetime(2023, 2, 28, tzinfo=UTC), datetime(2025, 4, 30, tzinfo=UTC)]


@cache
def clock_changes(zone):
    """Days of 2010 to 2027 before which the offset of a zone differs."""
    days = [datetime(2010, 1, 1, tzinfo=UTC) + timedelta(days) for days in range(17 * 365)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, (before, after) in zip(days[1:], pairwise(offsets), strict=True) if before != after]


MINUTES = st.sampled_from(["0", "30", "15,45", "59", "0-10/5", "*/30"])
HOURS = st.sampled_from(["0", "1", "2", "3", "1-3", "2,14", "23", "*/2", "*", "*/6", "22-23", "0-23"])
DAYS = st.sampled_from(
    ["* * *"] * 5 + ["29 * *", "30 * *", "31 * *", "29-31 * *", "1 * *", "* * 1-5", "* * 0", "* 3,10 *"]
)
CRONS = st.one_of(
    st.builds("{} {} {}".format, MINUTES, HOURS, DAYS),
    st.sampled_from(["0 0 29 2 *", "@daily", "@weekly", "@monthly", "30 2 * * *", "0 9 13 * 5", "0 12 L * *"]),
)


@st.composite
def situations(draw):
    """A window, a time before a change of the clocks, one after it, and one in between."""
    zone = draw(st.sampled_from(ZONES))
    middle = draw(st.sampled_from([*clock_changes(zone), *CALM]))
    dates = draw(st.lists(st.integers(-4, 4), max_size=3, unique=True))
    try:
        window = CampaignWindow(
            on=draw(CRONS),
            off=draw(CRONS),
            timezone=zone,
            except_dates=[(middle + timedelta(days)).date() for days in dates],
        )
    except BatchConfigurationError as error:
        assert "same cron" in str(error)  # noqa: PT017
        window = CampaignWindow(on="30 2 * * *", off="45 2 * * *", timezone=zone)
    calm, past = middle - timedelta(days=3), middle + timedelta(days=1)
    return window, calm, past, calm + (past - calm) * (draw(st.integers(1440, 5760)) / 5760)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(situations(), st.floats(0, 0.999))
def test_the_changes_of_a_window_are_the_runs_of_airflow_that_change_its_state(situation, part):
    window, calm, past, after = situation
    moments = []
    for moment in fires(window, calm, 400):
        moments.append(moment)
        if moment > past:
            break
    live, expected = window.is_live_at(after), []
    for earlier, later in pairwise([after, *(moment for moment in moments if moment > after)]):
        assert window.is_live_at(earlier + (later - earlier) * part) is live
        if window.is_live_at(later) is not live:
            live = not live
            expected.append((later, live))
    changes = window.next_changes(after, max(len(expected), 1))
    assert changes[: len(expected)] == expected
    assert expected or all(moment > moments[-1] for moment, _ in changes)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(situations())
def test_without_a_change_of_the_clocks_the_latest_time_of_both_crons_decides(situation):
    from airflow.timetables.trigger import CronTriggerTimetable

    window, calm, *_ = situation
    calm = pendulum.instance(calm)

    def newest(cron):
        return CronTriggerTimetable(cron, timezone=window.timezone)._get_prev(calm.add(minutes=1))

    excepted = calm.in_timezone(window.timezone).date() in window.except_dates
    assert window.is_live_at(calm) is (newest(window.on) > newest(window.off) and not excepted)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(ZONES), st.data())
def test_airflow_runs_at_both_ends_of_a_one_off_window_and_of_its_excepted_dates(zone, data):
    middle = data.draw(st.sampled_from([*clock_changes(zone), *CALM]))
    start, end = (
        middle + timedelta(minutes=data.draw(minutes)) for minutes in (st.integers(-4000, 0), st.integers(1, 4000))
    )
    excepted = {middle.date() + timedelta(days) for days in data.draw(st.lists(st.integers(-3, 3), max_size=3))}
    window = CampaignWindow(start=start, end=end, timezone=zone, except_dates=excepted)
    changes = window.next_changes(start - timedelta(days=1), 100)
    assert {moment for moment, _ in changes} <= set(fires(window, start - timedelta(days=1), 40))
    for quarter in range(0, 4 * 24 * 6):
        moment = start - timedelta(hours=3) + quarter * timedelta(minutes=15)
        expected = start <= moment < end and moment.astimezone(ZoneInfo(zone)).date() not in excepted
        said = [live for change, live in changes if change <= moment]
        assert window.is_live_at(moment) is expected
        assert (said[-1] if said else False) is expected


# -------------------------------------------------------------------------------------------------------- except_dates


def test_a_window_does_not_open_on_an_excepted_date():
    window = CampaignWindow(**OFFICE, except_dates=["2026-12-25"])
    assert short_repr(window.next_changes(paris(2026, 12, 24, 12), 2)) == [
        ("2026-12-24 18:00 +01:00", False),
        ("2026-12-28 09:00 +01:00", True),
    ]


def test_an_open_window_is_off_from_midnight_to_midnight_of_an_excepted_date():
    window = CampaignWindow(on="0 9 * * 1", off="0 18 * * 5", timezone=PARIS, except_dates=[date(2026, 6, 3)])
    assert short_repr(window.next_changes(paris(2026, 6, 1, 9), 3)) == [
        ("2026-06-03 00:00 +02:00", False),
        ("2026-06-04 00:00 +02:00", True),
        ("2026-06-05 18:00 +02:00", False),
    ]


def test_an_off_on_an_excepted_date_still_closes_the_window():
    window = CampaignWindow(on="0 9 * * 1", off="0 12 * * 3", timezone=PARIS, except_dates=["2026-06-03"])
    assert short_repr(window.next_changes(paris(2026, 6, 1, 9), 2)) == [
        ("2026-06-03 00:00 +02:00", False),
        ("2026-06-08 09:00 +02:00", True),
    ]


def test_consecutive_excepted_dates_are_one_gap():
    window = CampaignWindow(
        on="@weekly", off="59 23 * * 6", timezone=PARIS, except_dates=["2026-06-04", "2026-06-02", "2026-06-03"]
    )
    assert short_repr(window.next_changes(paris(2026, 6, 1), 2)) == [
        ("2026-06-02 00:00 +02:00", False),
        ("2026-06-05 00:00 +02:00", True),
    ]
    assert window.timetable().summary == "0 0 * * 0, 59 23 * * 6, 0 0 2 6 *, 0 0 5 6 *"


def test_an_excepted_date_begins_at_one_o_clock_where_the_clocks_skip_midnight():
    window = CampaignWindow(on="@monthly", off="30 23 L * *", timezone="America/Sao_Paulo", except_dates=["2017-10-15"])
    assert short_repr(window.next_changes(pendulum.datetime(2017, 10, 10), 2), window.timezone) == [
        ("2017-10-15 01:00 -02:00", False),
        ("2017-10-16 00:00 -02:00", True),
    ]


# ------------------------------------------------------------------------------------------------------------- one-off


def test_a_one_off_window_without_offset_is_in_the_time_zone_of_the_window():
    naive = CampaignWindow(start="2026-07-01T09:00", end=datetime(2026, 7, 15, 18), timezone=PARIS)
    assert naive == CampaignWindow(start="2026-07-01T07:00Z", end="2026-07-15T16:00:00+00:00", timezone=PARIS)
    assert short_repr(naive.next_changes(paris(2020, 1, 1))) == [
        ("2026-07-01 09:00 +02:00", True),
        ("2026-07-15 18:00 +02:00", False),
    ]


def test_a_one_off_window_is_live_from_start_until_before_end():
    window = CampaignWindow(start="2026-07-01T09:00", end="2026-07-01T10:00", timezone=PARIS)
    minutes = [paris(2026, 7, 1, 8, 59, 59), paris(2026, 7, 1, 9), paris(2026, 7, 1, 9, 59, 59), paris(2026, 7, 1, 10)]
    assert [window.is_live_at(minute) for minute in minutes] == [False, True, True, False]
    assert window.next_changes(paris(2026, 7, 1, 10)) == []


def test_a_skipped_start_is_later_and_a_repeated_end_is_the_second_one():
    window = CampaignWindow(start="2026-03-29T02:30", end="2026-10-25T02:30", timezone=PARIS)
    assert [window.start, window.end] == [
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    ]


# --------------------------------------------------------------------------------------------------------- rare crons


def test_the_next_change_of_a_cron_of_leap_days_may_be_years_ahead():
    window = CampaignWindow(on="* * * * *", off="0 0 29 2 *", timezone=PARIS)
    assert short_repr(window.next_changes(paris(2096, 2, 29, 12), 1)) == [("2104-02-29 00:00 +01:00", False)]


def test_a_cron_of_the_31st_skips_months_without_one():
    window = CampaignWindow(on="0 9 31 * *", off="0 18 31 * *", timezone="UTC")
    assert [moment.month for moment, live in window.next_changes(pendulum.datetime(2026, 1, 1), 8) if live] == [
        1,
        3,
        5,
        7,
    ]


def test_crons_that_never_change_the_state_have_no_changes():
    window = CampaignWindow(on="0 9 * * *", off="0 9,18 * * *", timezone="UTC")
    assert window.next_changes(pendulum.datetime(2026, 1, 1)) == []


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "none of them"),
        ({"on": "0 9 * * *"}, "given: on."),
        ({"off": "0 9 * * *"}, "given: off."),
        ({"start": "2026-01-01", "off": "0 9 * * *"}, "given: off and start."),
        ({**OFFICE, "start": "2026-01-01", "end": "2026-01-02"}, "given: on and off and start and end."),
        ({**OFFICE, "on": "61 9 * * *"}, "on='61 9 * * *' is no cron"),
        ({**OFFICE, "off": "0 9 * *"}, "off='0 9 * *' has 4 fields"),
        ({**OFFICE, "on": "0 9 * * * *"}, "has 6 fields"),
        ({**OFFICE, "on": "@once"}, "'@once' has 1 field."),
        ({**OFFICE, "on": "H 9 * * *"}, "random field"),
        ({**OFFICE, "on": "R 9 * * *"}, "random field"),
        ({**OFFICE, "on": ""}, "has 0 fields"),
        ({**OFFICE, "on": 9}, "on must be a cron of at most 500 characters, not 9"),
        ({**OFFICE, "off": "0 0 30 2 *"}, "'0 0 30 2 *' never fires"),
        ({**OFFICE, "off": "00  9 * * MON-FRI"}, "the same cron"),
        ({**OFFICE, "timezone": "Paris"}, "timezone 'Paris' is not known"),
        ({**OFFICE, "timezone": ""}, "timezone '' is not known"),
        ({**OFFICE, "timezone": None}, "timezone None is not known"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "must be after start"),
        ({"start": "2026-01-02", "end": "2026-01-02"}, "must be after start"),
        ({"start": "tomorrow", "end": "2026-01-02"}, "start must be a datetime or an ISO 8601 string"),
        ({"start": "2026-01-01", "end": date(2026, 1, 2)}, "end must be a datetime"),
        ({"start": "2026-01-01T09:00:30", "end": "2026-01-02"}, "has seconds"),
        ({**OFFICE, "except_dates": "2026-12-25"}, "must be a list of dates"),
        ({**OFFICE, "except_dates": ["25/12/2026"]}, "holds '25/12/2026'"),
        ({**OFFICE, "except_dates": [datetime(2026, 12, 25)]}, "without a time"),
    ],
)
def test_wrong_arguments_of_a_window_are_refused_and_named(arguments, words):
    assert words in refusal(**arguments)


@pytest.mark.parametrize("moment", [datetime(2026, 6, 1), "2026-06-01T00:00Z"])
def test_a_window_refuses_a_time_without_a_time_zone_and_text(moment):
    for ask in (CampaignWindow.is_live_at, CampaignWindow.next_changes):
        with pytest.raises(BatchConfigurationError, match="must be a datetime with a time zone"):
            ask(CampaignWindow(**OFFICE), moment)


@pytest.mark.parametrize("count", [0, -1, True, 2.5, None, 10**6 + 1, 10**5000], ids=range(7))
def test_next_changes_refuses_a_count_that_is_not_a_whole_number_in_range(count):
    with pytest.raises(BatchConfigurationError, match="count must be a whole number from 1 to 1,000,000"):
        CampaignWindow(**OFFICE).next_changes(paris(2026, 6, 1), count)


# ---------------------------------------------------------------------------------------------------------- the object

EACH = pytest.mark.parametrize(
    "window",
    [
        CampaignWindow(**OFFICE, except_dates=["2026-12-25"]),
        CampaignWindow(start="2026-07-01T09:00", end="2026-07-15T18:00", timezone=PARIS),
        CampaignWindow(on="30 * 1 * *", off="@daily", timezone="UTC"),
    ],
    ids=["crons", "one-off", "halves"],
)


def test_the_repr_of_a_window_is_the_call_that_makes_it():
    assert repr(CampaignWindow(**OFFICE, except_dates=[date(2026, 12, 25)])) == (
        "CampaignWindow(on='0 9 * * 1-5', off='0 18 * * 1-5', timezone='Europe/Paris', except_dates=['2026-12-25'])"
    )
    assert repr(CampaignWindow(start="2026-07-01T09:00", end="2026-07-15T18:00", timezone=PARIS)) == (
        "CampaignWindow(start='2026-07-01T09:00:00+02:00', end='2026-07-15T18:00:00+02:00', timezone='Europe/Paris')"
    )


@EACH
def test_evaluating_the_repr_of_a_window_makes_an_equal_one(window):
    assert eval(repr(window), {"CampaignWindow": CampaignWindow}) == window


@EACH
def test_a_copied_or_pickled_window_is_equal(window):
    for other in (copy.deepcopy(window), copy.copy(window), pickle.loads(pickle.dumps(window))):
        assert other == window
        assert hash(other) == hash(window)
        assert other.next_changes(paris(2026, 6, 1), 3) == window.next_changes(paris(2026, 6, 1), 3)


def test_windows_are_immutable_and_equal_only_with_equal_arguments():
    with pytest.raises(AttributeError):
        CampaignWindow(**OFFICE).on = "0 8 * * *"
    assert CampaignWindow(**OFFICE) != CampaignWindow(**OFFICE, except_dates=["2026-12-25"])
    assert CampaignWindow(**OFFICE) != CampaignWindow(**{**OFFICE, "timezone": "UTC"})


@pytest.mark.parametrize("zone", [pendulum.timezone(PARIS), ZoneInfo(PARIS)])
def test_a_window_accepts_a_time_zone_object(zone):
    assert CampaignWindow(**{**OFFICE, "timezone": zone}) == CampaignWindow(**OFFICE)
    assert CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone=UTC).timezone == "UTC"


@EACH
def test_a_dag_with_a_window_as_timetable_and_as_an_argument_survives_serialisation(window):
    from airflow.sdk import DAG, BaseOperator

    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # Airflow 3.1
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization

    class Toggle(BaseOperator):
        def __init__(self, *, live, **kwargs):
            super().__init__(**kwargs)
            self.live = live

    with DAG("sale", schedule=window.timetable(), start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False) as dag:
        toggle = Toggle(task_id="toggle", live=window)
    assert copy.deepcopy(toggle).live == window
    assert Serialization.from_dict(Serialization.to_dict(dag)).timetable.summary == window.timetable().summary


def test_importing_windows_loads_no_schedule_code():
    code = (
        "import sys, airflow.sdk, airflow_batch.exceptions; before = set(sys.modules); import airflow_batch.windows;"
        "ours = {'airflow_batch.' + name for name in ('windows', '_airflow', '_airflow.crons', '_values')};"
        "print(sorted(set(sys.modules) - before - ours - {'dataclasses'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments", [{"on": "@daily", "off": "0 9 * * *"}, {"start": "2026-07-01", "end": "2026-07-02"}]
)
def test_a_window_without_a_time_zone_is_utc_and_warns(arguments):
    with pytest.warns(UserWarning, match="has no timezone, so its times are UTC") as caught:
        window = CampaignWindow(**arguments)
    assert window == CampaignWindow(**arguments, timezone="UTC")
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Paris", UTC])
def test_a_window_with_a_time_zone_does_not_warn_even_when_it_is_copied(timezone):
    window = CampaignWindow(**OFFICE | {"timezone": timezone})
    poll = read_poll(LivePoll((Reference("abc", None),), False, window).as_json())
    assert poll.live == window == pickle.loads(pickle.dumps(window)) == copy.deepcopy(window)
