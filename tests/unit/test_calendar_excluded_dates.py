"""``python -m airflow_batch.calendars show``: excluded dates, and campaigns that several apps share."""

from __future__ import annotations

import re

import pytest

from airflow_batch.calendars.__main__ import main

SALE = """\
timezone: Europe/Paris
campaigns:
- {name: Summer sale, app: ios, token: a, windows: &day [{on: "0 9 * * *", off: "0 18 * * *"}],
   except_dates: [2026-07-14]}
- {name: Summer sale, app: android, token: b, windows: *day, except_dates: [2026-07-14]}
- {name: Night, token: c, windows: [{on: "0 20 * * *", off: "0 2 * * *"}]}
- {name: Night, token: d, windows: [{on: "0 20 * * *", off: "0 2 * * *"}]}
"""


@pytest.fixture
def show(tmp_path, capsys):
    """Return a function that runs the command on the calendar and returns what it prints."""

    def run(*arguments):
        path = tmp_path / "calendar.yaml"
        path.write_text(SALE)
        assert main(["show", str(path), *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return run


def test_a_change_that_several_apps_share_is_one_line_and_campaigns_without_an_app_keep_their_own(show):
    lines = show("--at", "2026-07-12T12:00", "--days", 1).splitlines()
    assert [line for line in lines if re.search("18:00|20:00", line)] == [
        "  18:00 CEST +02:00  off  Summer sale  ios, android",
        "  20:00 CEST +02:00  on   Night",
        "  20:00 CEST +02:00  on   Night",
    ]
    assert lines[-1].startswith("8 changes in 1 day")


def test_excluded_dates_are_listed_after_the_changes(show):
    shown = show("--at", "2026-07-12T12:00", "--days", 3)
    assert "\nExcluded dates (except_dates)\n  2026-07-14  Summer sale  ios, android\n\n" in shown


@pytest.mark.parametrize(("at", "days"), [("2026-07-15T00:00", 30), ("2026-07-10T12:00", 3)])
def test_excluded_dates_outside_of_the_days_shown_are_not_listed(show, at, days):
    assert "Excluded" not in show("--at", at, "--days", days)


def test_the_picture_hatches_excluded_dates_and_says_so(show, tmp_path):
    pytest.importorskip("matplotlib")
    pictures = []
    for at in ("2026-07-12T12:00", "2026-07-12T12:00", "2026-08-12T12:00"):
        show("--at", at, "--days", 3, "--plot", tmp_path / "out.svg")
        pictures.append((tmp_path / "out.svg").read_text())
    with_excluded, again, without = pictures
    assert with_excluded == again
    assert "hatched: excluded dates" in with_excluded
    assert len(re.findall(r"fill: url\(#", with_excluded)) == 2
    assert "hatched" not in without
    assert "url(#h" not in without
