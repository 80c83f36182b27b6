"""A calendar file: how it is read, what is refused with file and line, and that Airflow runs at every change."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pendulum
import pytest
import time_machine
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from samples import TOKEN

from airflow_batch._sync.desired import read_desired
from airflow_batch.calendars import CalendarCampaign, CampaignCalendar, LiveWindows, read_calendar
from airflow_batch.calendars.nodes import MAX_DEPTH, MAX_SIZE
from airflow_batch.calendars.schedule import PERIODS
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.timetables.calendars import CalendarTimetable
from airflow_batch.windows import CampaignWindow

PARIS = "Europe/Paris"
OFFICE = '{on: "0 9 * * 1-5", off: "0 18 * * 1-5"}'
SALE = f"""\
timezone: Europe/Paris
campaigns:
  - name: Summer sale
    app: ios
    token: {TOKEN}
    windows:
      - {OFFICE}
      - {{start: 2026-07-04T10:00, end: 2026-07-05T20:00}}
    except_dates: [2026-12-25]
    definition: summer_sale.json
"""


@pytest.fixture
def calendar(tmp_path):
    """Return a function that writes a calendar and reads it."""

    def write(text, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        path = tmp_path / "calendar.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_calendar(path)

    return write


def one(rest="", *, name="Sale", token=TOKEN, windows=f"[{OFFICE}]"):
    return f"timezone: Europe/Paris\ncampaigns:\n- name: {name}\n  token: {token}\n  windows: {windows}\n{rest}"


def paris(*parts):
    return pendulum.datetime(*parts, tz=PARIS)


def next_changes(campaign, after, count):
    return list(islice(campaign.live.changes(after), count))


# ----------------------------------------------------------------------------------------------------------- content


def test_read_calendar_returns_the_content_of_the_file(calendar, tmp_path):
    definition = {"name": "Summer sale", "live": False}
    assert calendar(SALE, summer_sale=definition) == CampaignCalendar(
        path=tmp_path / "calendar.yaml",
        timezone=PARIS,
        campaigns=(
            CalendarCampaign(
                token=TOKEN,
                app="ios",
                name="Summer sale",
                windows=(
                    CampaignWindow(
                        on="0 9 * * 1-5", off="0 18 * * 1-5", timezone=PARIS, except_dates=[date(2026, 12, 25)]
                    ),
                    CampaignWindow(
                        start="2026-07-04T10:00", end="2026-07-05T20:00", timezone=PARIS, except_dates=["2026-12-25"]
                    ),
                ),
                definition=definition,
            ),
        ),
    )


def test_optional_keys_of_a_campaign_are_none_and_left_out_of_the_desired_state(calendar):
    (campaign,) = calendar(one("  app:\n  except_dates: []\n  definition: ~\n")).campaigns
    assert (campaign.app, campaign.definition, campaign.windows[0].except_dates) == (None, None, ())
    (desired,) = calendar(one()).desired()
    assert desired == {"campaign": TOKEN, "live": LiveWindows(campaign.windows), "expect_name": "Sale"}


def test_the_former_name_of_desired_works_with_a_deprecation_warning(calendar):
    known = calendar(one())
    with pytest.warns(DeprecationWarning, match=r"use `desired\(\)`"):
        assert known.wanted() == known.desired()


def test_the_desired_state_of_a_calendar_is_accepted_by_the_sync_operator(calendar):
    (desired,) = read_desired(calendar(SALE, summer_sale={"name": "Summer sale"}).desired())
    assert (desired.token, desired.app, desired.expect_name) == (TOKEN, "ios", "Summer sale")
    assert desired.definition == {"name": "Summer sale"}
    assert desired.live.is_live_at(paris(2026, 7, 4, 10))
    assert not desired.live.is_live_at(paris(2026, 7, 5, 20))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"Summer sale "', "Summer sale "),
        ("Summer sale  ", "Summer sale"),
        *((name, name) for name in ("A1", "2026", "No", "2026-07-01", "1.50", "on")),
    ],
)
def test_a_name_is_the_text_as_written(calendar, written, name):
    assert calendar(one(name=written)).campaigns[0].name == name


# -------------------------------------------------------------------------------------------------- surprises of YAML


def test_on_and_off_are_keys_though_yaml_reads_them_as_booleans(calendar):
    (campaign,) = calendar(one(windows="[{on: 0 9 * * *, off: 0 18 * * *}]")).campaigns
    assert (campaign.windows[0].on, campaign.windows[0].off) == ("0 9 * * *", "0 18 * * *")


@pytest.mark.parametrize("token", ["12345678901234567890123456789012", "0123", "1e5", "0x1F", "1_000", "yes"])
def test_a_token_is_the_text_as_written(calendar, token):
    assert calendar(one(token=token)).campaigns[0].token == token


@pytest.mark.parametrize(
    "start", ["2026-07-01 09:00:00", "2026-07-01T09:00:00", "2026-07-01T09:00", "2026-07-01T07:00Z"]
)
def test_a_time_is_in_the_calendars_zone_unless_it_has_an_offset(calendar, start):
    (campaign,) = calendar(one(windows=f"[{{start: {start}, end: 2026-07-15}}]")).campaigns
    assert campaign.windows[0].start == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert campaign.windows[0].end == datetime(2026, 7, 14, 22, tzinfo=UTC)


def test_in_a_definition_only_json_values_are_not_text(calendar):
    text = (
        "{name: Sale, live: true, push_time: 2026-07-01 09:00:00, a: 12, b: -1.5, c: 007, d: 10:30, e: no, "
        "f: '12', g: null, h: [true, {on: 1}]}"
    )
    assert calendar(one(f"  definition: {text}\n")).campaigns[0].definition == {
        "name": "Sale",
        "live": True,
        "push_time": "2026-07-01T09:00:00",
        "a": 12,
        "b": -1.5,
        "c": "007",
        "d": "10:30",
        "e": "no",
        "f": "12",
        "g": None,
        "h": [True, {"on": 1}],
    }


def test_anchors_aliases_and_merge_keys_work_and_a_key_of_the_mapping_itself_wins(calendar):
    read = calendar(
        f"""\
timezone: Europe/Paris
x-base: &base {{app: ios, windows: &office [{OFFICE}], except_dates: [2026-12-25]}}
campaigns:
- {{<<: *base, name: One, token: a}}
- {{<<: [*base, {{name: Other}}], token: b, app: android, except_dates: []}}
- {{name: Three, token: c, windows: *office}}
"""
    )
    assert [(item.name, item.app, len(item.windows[0].except_dates)) for item in read.campaigns] == [
        ("One", "ios", 1),
        ("Other", "android", 0),
        ("Three", None, 0),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(calendar):
    assert calendar(b"\xef\xbb\xbf" + one().replace("\n", "\r\n").encode()).campaigns == calendar(one()).campaigns


# ------------------------------------------------------------------------------------------------------------ refusals

AGAIN = f"- {{name: Sale, token: {TOKEN}, windows: [{OFFICE}]}}\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "the file is empty"),
        ("# soon\n", 1, "the file is empty"),
        ("- a\n", 1, "the file must be a mapping, not a list"),
        (
            one().replace("timezone", "zone"),
            1,
            "unknown key 'zone'. Is 'timezone' meant? Allowed in the file: timezone",
        ),
        ("timezone: UTC\n", 1, "the file has no campaigns"),
        ("timezone: UTC\ncampaigns:\n", 2, "campaigns must be a list, not nothing"),
        ("timezone: UTC\ncampaigns: []\n", 2, "campaigns must be a list of at least one item"),
        ("timezone: UTC\ncampaigns: {}\n", 2, "campaigns must be a list, not a mapping"),
        ("timezone: UTC\ncampaigns: [TOKEN]\n", 2, "campaigns[0] must be a mapping, not the text 'TOKEN'"),
        (one().replace(PARIS, "Paris"), 1, "timezone 'Paris' is not known"),
        (one().replace(PARIS, "+02:00"), 1, "IANA name"),
        (one("  tokens: x\n"), 6, "unknown key 'tokens'. Is 'token' meant? Allowed in a campaign: name, app, token,"),
        (one().replace("  token:", "  #"), 3, "a campaign has no token. Needed: name, token, windows"),
        (one(name=""), 3, "name must be text, not nothing"),
        (one(name="' '"), 3, "name must be text"),
        (one(name="[a]"), 3, "name must be text, not a list"),
        (one(token="a/b"), 4, "'a/b' is not a campaign token"),
        (one(token="{{ params.x }}"), 4, "a key that is not text"),
        (one(AGAIN), 6, f"campaign '{TOKEN}' is in line 3 already"),
        (one("  name: Other\n"), 6, "the key 'name' is in line 3 already"),
        (one(windows="[]"), 5, "windows must be a list of at least one item"),
        (one(windows=OFFICE), 5, "windows must be a list"),
        (one(windows="\n  - on: 0 9 * * *\n    off: 0 25 * * *"), 7, "off='0 25 * * *' is no cron"),
        (
            one(windows="\n  - on: 0 9 * * *\n    of: 0 8 * * *"),
            7,
            "unknown key 'of'. Is 'off' meant? Allowed in a window: on, off",
        ),
        (one(windows="\n  - on: 0 9 * * *\n    start: 2026-01-01"), 6, "given: on and start"),
        (one(windows='[{on: "@daily"}]'), 5, "on and off (two crons), or start and end"),
        (one(windows="[{on: 1, off: 2}]"), 5, "on='1' has 1 field"),
        (one(windows="\n  - start: 2026-01-02\n    end: 2026-01-01"), 7, "must be after start"),
        (one(windows="[{start: tomorrow, end: 2026-01-01}]"), 5, "not 'tomorrow'"),
        (
            one("  except_dates:\n  - 2026-12-25\n  - 25.12.2026\n"),
            8,
            "holds '25.12.2026', which is no date. Pass dates",
        ),
        (one("  except_dates: [2026-12-25T00:00]\n"), 6, "holds '2026-12-25T00:00'"),
        (one("  except_dates: 2026-12-25\n"), 6, "except_dates must be a list, not the text '2026-12-25'"),
        (one("  definition: none.json\n"), 6, "none.json: there is no such file"),
        (one("  definition: calendar.yaml\n"), 6, "definition file 'calendar.yaml' is not JSON"),
        (one("  definition: list.json\n"), 6, "definition file 'list.json' must be an object"),
        (one("  definition: [a]\n"), 6, "definition is a list"),
        (one("  definition: {name: ab}\n"), 6, "name must be text of at least 3 characters"),
        (one("  definition: {labels: [a, b, c, d]}\n"), 6, "labels holds 4 entries"),
        (one("  definition: .\n"), 6, "cannot be read"),
        (one("  app: *none\n"), 6, "not YAML: found undefined alias"),
        (one("  app: &a {<<: *a}\n"), 6, "an alias that holds itself"),
        (one("  app: {<<: {}, <<: {}}\n"), 6, "the key '<<' is in line 6 already"),
        (one("  app: {<<: ios}\n"), 6, "the value of << is not a mapping"),
        (one("  app: !!python/name:os.system x\n"), 6, "the tag"),
        (one("  app: !!binary aGk=\n"), 6, "the tag '!!binary'"),
        (one("  app: !!map ios\n"), 6, "the tag '!!map' here"),
        (one("  app: !!str {a: b}\n"), 6, "the tag '!!str' here"),
        (one("  app: !!seq {a: b}\n"), 6, "the tag '!!seq' here"),
        (one("\tapp: ios\n"), 6, "not YAML: "),
        (one("  app: [ios\n"), 7, "not YAML: while parsing a flow sequence"),
        (one("  app: \x01\n"), 6, "not YAML: control characters"),
        (one("---\na: b\n"), 6, "expected a single document"),
        (one().encode() + "  app: é\n".encode("latin-1"), 6, "not UTF-8: the byte 0xe9"),
        ("[" * 100_000, 1, f"At most {MAX_DEPTH} levels"),
    ],
)
def test_a_wrong_calendar_is_refused_with_file_and_line(calendar, tmp_path, text, line, words):
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(BatchConfigurationError) as caught:
        calendar(text)
    assert str(caught.value).startswith(f"{tmp_path / 'calendar.yaml'}, line {line}: ")
    assert words in str(caught.value)


def test_all_mistakes_of_a_calendar_are_reported_together_in_the_order_of_their_lines(calendar, tmp_path):
    text = f"""\
timezone: Paris
x-base: &base {{apps: ios}}
campaigns:
- name: [Sale]
  token: {TOKEN}
  name: Sale
  windows:
  - {{on: 0 9 * * *, off: 0 25 * * *}}
  - start: 2026-07-01
    end: 2026-06-01
  except_dates: [2026-12-25, 25.12.2026]
  definition:
    name: Sale
    labels: [a, b, c, d]
- <<: *base
  token: a/b
  definition: !!str none.json
"""
    with pytest.raises(BatchConfigurationError) as caught:
        calendar(text)
    found = str(caught.value).removeprefix(f"{tmp_path / 'calendar.yaml'}, ").splitlines()
    assert [line[: len(words)] for line, words in zip(found, EXPECTED, strict=True)] == EXPECTED


EXPECTED = [
    "line 1: timezone 'Paris' is not known.",
    "line 2: unknown key 'apps'. Is 'app' meant?",
    "line 4: name must be text, not a list.",
    "line 6: the key 'name' is in line 4 already.",
    "line 8: off='0 25 * * *' is no cron",
    "line 10: end (2026-06-01T00:00:00+00:00) must be after start",
    "line 11: except_dates holds '25.12.2026', which is no date.",
    "line 14: labels holds 4 entries",
    "line 15: a campaign has no name. Needed: name, token, windows.",
    "line 15: a campaign has no windows. Needed: name, token, windows.",
    "line 16: 'a/b' is not a campaign token",
    "line 17: definition file ",
]


def test_at_most_twenty_mistakes_of_a_calendar_are_reported(calendar):
    rows = "".join(f"- {{name: Sale, token: t{number}, windows: []}}\n" for number in range(25))
    with pytest.raises(BatchConfigurationError, match="and 5 more mistakes") as caught:
        calendar(f"timezone: UTC\ncampaigns:\n{rows}")
    assert str(caught.value).count("\n") == 20


def test_a_calendar_may_have_the_same_token_in_two_apps(calendar):
    assert len(calendar(one("  app: ios\n" + AGAIN)).campaigns) == 2


def test_a_calendar_file_that_is_missing_or_too_large_is_refused(calendar, tmp_path):
    with pytest.raises(BatchConfigurationError, match=r"calendar\.yaml: there is no such file"):
        read_calendar(tmp_path / "calendar.yaml")
    with pytest.raises(BatchConfigurationError, match="larger than 10 MB"):
        calendar(b"#" * (MAX_SIZE + 1))
    with pytest.raises(BatchConfigurationError, match="cannot be read"):
        read_calendar(tmp_path)


# ----------------------------------------------------------------------------------------------------- overlapping


def test_a_campaign_is_live_where_its_windows_overlap(calendar):
    hours = [(9, 12), (12, 15), (14, 16)]
    lunch = ", ".join(f"{{on: 0 {begin} * * *, off: 0 {end} * * *}}" for begin, end in hours)
    (campaign,) = calendar(one(windows=f"[{lunch}]")).campaigns
    assert [moment.in_timezone(PARIS).hour for moment, _ in next_changes(campaign, paris(2026, 6, 1), 4)] == [9, 16] * 2
    assert [campaign.is_live_at(paris(2026, 6, 1, hour)) for hour in (8, 9, 12, 15, 16)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_windows_that_alternate_without_a_gap_have_no_changes():
    day, night = (
        CampaignWindow(on=on, off=off, timezone=PARIS)
        for on, off in (("0 6 * * *", "0 18 * * *"), ("0 18 * * *", "0 6 * * *"))
    )
    assert next_changes(CalendarCampaign(TOKEN, None, "Always", (day, night)), paris(2026, 5, 1), 1) == []


def test_an_excepted_date_applies_to_every_window_of_a_campaign(calendar):
    both = f"[{OFFICE}, {{start: 2026-12-24T20:00, end: 2026-12-26T10:00}}]"
    (campaign,) = calendar(one("  except_dates: [2026-12-25]\n", windows=both)).campaigns
    changes = next_changes(campaign, paris(2026, 12, 24, 18), 4)
    assert [(moment.in_timezone(PARIS).format("DD HH:mm"), live) for moment, live in changes] == [
        ("24 20:00", True),
        ("25 00:00", False),
        ("26 00:00", True),
        ("26 10:00", False),
    ]


def test_the_changes_of_all_campaigns_are_in_order_and_end_at_the_given_time(calendar):
    read = calendar(one(AGAIN.replace(TOKEN, "b").replace("0 9", "30 8").replace("Sale", "Early")))
    changes = read.changes(paris(2026, 6, 1, 8, 30), paris(2026, 6, 1, 18))
    assert [(moment.in_timezone(PARIS).format("HH:mm"), item.name, live) for moment, item, live in changes] == [
        ("09:00", "Sale", True),
        ("18:00", "Sale", False),
        ("18:00", "Early", False),
    ]
    assert changes[0][0].timezone_name == "UTC"


@pytest.mark.parametrize("moment", [datetime(2026, 6, 1), "2026-06-01"])
def test_a_calendar_refuses_a_time_without_a_time_zone(calendar, moment):
    read = calendar(one())
    for ask in (
        read.campaigns[0].is_live_at,
        lambda at: next_changes(read.campaigns[0], at, 1),
        lambda at: read.changes(at, paris(2030, 1, 1)),
    ):
        with pytest.raises(BatchConfigurationError, match="must be a datetime with a time zone"):
            ask(moment)


def test_the_digest_depends_on_the_content_of_a_calendar_and_not_on_its_formatting(calendar):
    digest = calendar(one()).digest()
    assert calendar("# a comment\n" + one().replace("[2026", "[ 2026")).digest() == digest
    assert calendar(one(name="Other")).digest() != digest
    assert calendar(one("  definition: {name: Sale}\n")).digest() != digest
    assert calendar(one("  except_dates: [2026-12-25]\n")).digest() != digest
    assert calendar(one().replace(PARIS, "UTC")).digest() != digest


# ----------------------------------------------------------------------------------------------------- the timetable


def crons(read, reconcile_every=None):
    return read.timetable(reconcile_every=reconcile_every).summary.split(", ")


def test_the_timetable_has_every_cron_once_and_the_times_of_one_off_windows(calendar):
    read = calendar(
        one(
            "  except_dates: [2026-12-25]\n" + AGAIN.replace(TOKEN, "b"),
            windows=f"[{OFFICE}, {{start: 2026-07-04T10:00, end: 2026-07-05T20:00}}]",
        )
    )
    assert crons(read) == ["0 9 * * 1-5", "0 18 * * 1-5", "0 0 25 12 *", "0 0 26 12 *", "2 single moments"]
    saved = read.timetable().serialize()
    moments = [pendulum.from_timestamp(moment, PARIS).format("YYYY-MM-DD HH:mm") for moment in saved["moments"]]
    assert moments == ["2026-07-04 10:00", "2026-07-05 20:00"]
    assert saved["timezone"] == PARIS


def test_the_timetable_leaves_out_crons_that_reconcile_every_includes(calendar):
    read = calendar(one(windows="[{on: 15 9 * * *, off: 50 17 * * *}]"))
    assert crons(read, timedelta(minutes=15)) == ["50 17 * * *", "*/15 * * * *"]
    assert crons(read, timedelta(hours=1)) == ["15 9 * * *", "50 17 * * *", "0 * * * *"]
    assert crons(read, timedelta(minutes=5)) == ["*/5 * * * *"]


@pytest.mark.parametrize(
    ("every", "cron"),
    [(1, "* * * * *"), (20, "*/20 * * * *"), (60, "0 * * * *"), (180, "0 */3 * * *"), (1440, "0 0 * * *")],
)
def test_reconcile_every_becomes_a_cron(calendar, every, cron):
    assert crons(calendar(one()), timedelta(minutes=every))[-1] == cron


@pytest.mark.parametrize("minutes", PERIODS)
def test_the_runs_of_reconcile_every_are_evenly_spaced(calendar, minutes):
    from croniter import croniter

    schedule = croniter(crons(calendar(one()), timedelta(minutes=minutes))[-1], datetime(2026, 6, 1))
    moments = [schedule.get_next(datetime) for _ in range(100)]
    assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(minutes=minutes)}


@pytest.mark.parametrize("every", [0, 7, 45, 90, 300, 2880, 0.5, -15])
def test_a_reconcile_every_that_would_not_be_evenly_spaced_is_refused_with_the_allowed_values(calendar, every):
    with pytest.raises(BatchConfigurationError, match=r"of 1 min, .*30 min, 1 h, 2 h, .*24 h is allowed"):
        calendar(one()).timetable(reconcile_every=timedelta(minutes=every))


def test_a_reconcile_every_that_is_not_a_timedelta_is_refused(calendar):
    with pytest.raises(BatchConfigurationError, match="reconcile_every is 15"):
        calendar(one()).timetable(reconcile_every=15)


@pytest.mark.parametrize(
    ("zone", "crons_expected"),
    [
        (PARIS, ["30 2 * * *", "0 18 * * *", "30 * * * *"]),
        ("Australia/Lord_Howe", ["30 2 * * *", "0 18 * * *", "0,30 * * * *"]),
        ("America/Havana", ["30 2 * * *", "0 18 * * *", "30 * * * *"]),
        ("Asia/Tokyo", ["30 2 * * *", "0 18 * * *"]),
    ],
)
def test_a_calendar_with_crons_in_an_hour_that_the_clocks_change_runs_hourly_too(calendar, zone, crons_expected):
    read = calendar(one(windows="[{on: 30 2 * * *, off: 0 18 * * *}]").replace(PARIS, zone))
    assert crons(read) == crons_expected


def test_reconcile_every_replaces_the_hourly_crons_that_it_includes(calendar):
    read = calendar(one(windows="[{on: 30 2 * * *, off: 0 18 * * *}]"))
    assert crons(read, timedelta(minutes=15))[-1:] == ["*/15 * * * *"]
    assert crons(read, timedelta(hours=1))[-2:] == ["30 * * * *", "0 * * * *"]


ZONES = [PARIS, "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Casablanca", "UTC"]
MINUTES = st.sampled_from(["0", "30", "15,45", "59", "7", "*/30", "0-10/5"])
HOURS = st.sampled_from(["0", "1", "2", "3", "1-3", "2,14", "23", "*/2", "*", "*/6"])
DAYS = st.sampled_from(["* * *"] * 4 + ["* * 1-5", "* * 0", "1 * *", "29-31 * *"])
CRONS = st.builds("{} {} {}".format, MINUTES, HOURS, DAYS)


def clock_changes(zone):
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days) for days in range(2 * 365)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, (before, after) in zip(days[1:], pairwise(offsets), strict=True) if before != after]


DAYS_OF = {zone: [*clock_changes(zone), datetime(2026, 6, 15, tzinfo=UTC)] for zone in ZONES}


@st.composite
def calendars(draw):
    """A calendar, the day on which the clocks change, and reconcile_every."""
    zone = draw(st.sampled_from(ZONES))
    middle = draw(st.sampled_from(DAYS_OF[zone]))
    campaigns = []
    for number in range(draw(st.integers(1, 2))):
        excepted = [(middle + timedelta(day)).date() for day in draw(st.lists(st.integers(-2, 2), max_size=2))]
        windows = []
        for _ in range(draw(st.integers(1, 2))):
            if draw(st.integers(0, 3)):
                on, off = draw(CRONS), draw(CRONS)
                arguments = {"on": on, "off": "45 2 * * *" if on == off else off}
            else:
                start = middle + timedelta(minutes=draw(st.integers(-3000, 2000)))
                arguments = {"start": start, "end": start + timedelta(minutes=draw(st.integers(1, 3000)))}
            try:
                windows.append(CampaignWindow(**arguments, timezone=zone, except_dates=excepted))
            except BatchConfigurationError:  # crons that mean the same
                windows.append(CampaignWindow(on="30 2 * * *", off="45 2 * * *", timezone=zone, except_dates=excepted))
        campaigns.append(CalendarCampaign(f"t{number}", None, "Name", tuple(windows)))
    every = draw(st.sampled_from([None, timedelta(minutes=30), timedelta(hours=4)]))
    return CampaignCalendar(path=None, timezone=zone, campaigns=tuple(campaigns)), middle, every


def fires(timetable, after, until):
    from airflow.timetables.base import DataInterval, TimeRestriction

    unrestricted = TimeRestriction(earliest=None, latest=None, catchup=True)
    moment = pendulum.instance(after)
    while moment < until:
        info = timetable.next_dagrun_info(
            last_automated_data_interval=DataInterval.exact(moment), restriction=unrestricted
        )
        if info is None:
            return
        moment = info.run_after
        yield moment


@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(calendars(), st.floats(0, 0.999), st.integers(0, 40))
def test_airflow_runs_a_calendar_at_every_change_of_its_windows(situation, part, offset):
    calendar, middle, every = situation
    # Airflow computes each run from the one before it: from any start it must run at every change.
    begin, until = middle - timedelta(hours=26, minutes=offset), middle + timedelta(hours=5)
    runs = [run for run in fires(calendar.timetable(reconcile_every=every), begin, until) if run <= until]
    changes = calendar.changes(begin, until)
    assert {moment for moment, _, _ in changes} <= set(runs)
    for campaign in calendar.campaigns:
        live = campaign.is_live_at(begin)
        said = {moment: state for moment, item, state in changes if item is campaign}
        for earlier, later in pairwise([begin, *runs]):
            assert campaign.is_live_at(earlier + (later - earlier) * part) is live
            now = any(window.is_live_at(later) for window in campaign.windows)
            assert said.get(later) is (None if now is live else now)
            live = now


@pytest.mark.parametrize(
    ("zone", "day", "on", "other", "change"),
    [
        (PARIS, (2026, 3, 29), "30 2 * * *", "0 3 * * *", "2026-03-29T03:30+02:00"),
        (PARIS, (2026, 10, 25), "30 2 * * *", "50 * * * *", "2026-10-25T02:30+01:00"),
        ("Australia/Lord_Howe", (2026, 4, 5), "45 1 * * *", "50 * * * *", "2026-04-05T01:45+10:30"),
    ],
)
def test_airflow_skips_no_change_at_a_change_of_the_clocks_because_of_another_campaign(zone, day, on, other, change):
    late, busy = (
        CalendarCampaign(token, None, "Sale", (CampaignWindow(on=cron, off="0 18 * * *", timezone=zone),))
        for token, cron in (("a", on), ("b", other))
    )
    calendar = CampaignCalendar(path=None, timezone=zone, campaigns=(late, busy))
    midnight = pendulum.datetime(*day, tz=zone)
    (expected,) = (moment for moment, item, live in calendar.changes(midnight, midnight.add(hours=6)) if item is late)
    assert expected == datetime.fromisoformat(change)
    assert expected in set(fires(calendar.timetable(reconcile_every=None), midnight, midnight.add(hours=6)))


class TestNextRun:
    """The next run of a timetable of crons and single moments, where DAGs are not caught up: as of Airflow's crons."""

    NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def next(self, moments, last=None, earliest=None, latest=None, crons=(), catchup=False):
        from airflow.timetables.base import DataInterval, TimeRestriction

        timetable = CalendarTimetable(crons, [int(moment.timestamp()) for moment in moments], "UTC")
        timetable = CalendarTimetable.deserialize(json.loads(json.dumps(timetable.serialize())))
        with time_machine.travel(self.NOON, tick=False):
            info = timetable.next_dagrun_info(
                last_automated_data_interval=last and DataInterval.exact(pendulum.instance(last)),
                restriction=TimeRestriction(
                    earliest and pendulum.instance(earliest), latest and pendulum.instance(latest), catchup
                ),
            )
        return info and info.run_after

    def at(self, *hours):
        return [self.NOON + timedelta(hours=hour) for hour in hours]

    def test_the_first_run_of_a_new_dag_is_at_the_next_time(self):
        assert self.next(self.at(-2, -1, 3, 4)) == self.at(3)[0]

    def test_without_catchup_only_the_latest_missed_time_runs(self):
        assert self.next(self.at(-3, -2, -1, 3), last=self.at(-3)[0]) == self.at(-1)[0]

    def test_the_run_after_another_is_at_the_next_time(self):
        assert self.next(self.at(-1, 3, 4), last=self.at(-1)[0]) == self.at(3)[0]

    def test_there_is_no_run_after_the_last_time(self):
        assert self.next(self.at(-2, -1), last=self.at(-1)[0]) is None

    def test_the_timetable_respects_start_date_and_end_date(self):
        assert self.next(self.at(1, 3), earliest=self.at(2)[0]) == self.at(3)[0]
        assert self.next(self.at(1, 3), earliest=self.at(2)[0], latest=self.at(2.5)[0]) is None

    def test_with_catchup_each_missed_time_runs(self):
        assert self.next(self.at(-3, -2, -1), last=self.at(-3)[0], catchup=True) == self.at(-2)[0]

    def test_single_times_and_crons_run_in_order(self):
        assert self.next(self.at(0.5), last=self.at(0)[0], crons=["0 * * * *"]) == self.at(0.5)[0]
        assert self.next(self.at(1.5), last=self.at(0)[0], crons=["0 * * * *"]) == self.at(1)[0]

    @pytest.mark.parametrize("catchup", [False, True])
    @settings(deadline=None, max_examples=60)
    @given(
        hours=st.sets(st.integers(-60, 60), min_size=1, max_size=6),
        last=st.none() | st.integers(-70, 0),
        earliest=st.none() | st.integers(-70, 70),
    )
    def test_single_times_run_when_equivalent_crons_would(self, catchup, hours, last, earliest):
        from airflow.timetables.base import DataInterval, TimeRestriction
        from airflow.timetables.trigger import MultipleCronTriggerTimetable

        assume(last is not None or earliest is not None)  # else Airflow may begin with a cron's moment that has passed
        moments = self.at(*hours)
        dated = MultipleCronTriggerTimetable(*(f"0 {m.hour} {m.day} {m.month} *" for m in moments), timezone="UTC")
        last, earliest = (None if hour is None else self.at(hour + 0.25)[0] for hour in (last, earliest))
        with time_machine.travel(self.NOON, tick=False):
            info = dated.next_dagrun_info(
                last_automated_data_interval=last and DataInterval.exact(pendulum.instance(last)),
                restriction=TimeRestriction(earliest and pendulum.instance(earliest), None, catchup),
            )
        expected = info.run_after if info.run_after in moments else None
        assert self.next(moments, last, earliest, catchup=catchup) == expected


# -------------------------------------------------------------------------------------------------------------- import


def test_importing_calendars_loads_neither_yaml_nor_matplotlib_nor_schedule_code():
    code = (
        "import sys, airflow.sdk, airflow_batch.exceptions; before = set(sys.modules); import airflow_batch.calendars;"
        "new = set(sys.modules) - before;"
        "print(sorted(name for name in new if name.split('.')[0] in ('yaml', 'matplotlib', 'croniter', 'airflow')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
