"""``python -m airflow_batch.calendars show``: its output, its picture, its errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_batch.calendars.__main__ import main

EXAMPLE = Path(__file__).resolve().parents[2] / "dags_examples" / "campaign_calendar.yaml"
SALE = """\
timezone: Europe/Paris
campaigns:
- {name: Summer sale, app: ios, token: a, windows: [{on: "0 9 * * *", off: "30 2 * * *"}]}
- {name: Once, token: b, windows: [{start: 2026-03-28T23:00, end: 2026-03-29T12:00}]}
"""


@pytest.fixture
def show(tmp_path, capsys):
    """Return a function that runs the command on a calendar: exit code, output, errors."""

    def run(text, *arguments):
        path = tmp_path / "calendar.yaml"
        path.write_text(text)
        code = main(["show", str(path), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_show_prints_the_state_and_the_changes_of_each_local_day_with_changes_of_the_clocks(show):
    assert show(SALE, "--at", "2026-03-28T22:00", "--days", 1) == (
        0,
        """\
calendar.yaml: 2 campaigns, times in Europe/Paris

Now, Sat 2026-03-28 22:00 (CET +01:00)
  live  Summer sale  ios
  off   Once

Sat 2026-03-28
  23:00 CET +01:00  on   Once

Sun 2026-03-29  (the clocks go forward 60 min: CET +01:00 to CEST +02:00)
  03:30 CEST +02:00  off  Summer sale  ios
  09:00 CEST +02:00  on   Summer sale  ios
  12:00 CEST +02:00  off  Once

4 changes in 1 day, until Sun 2026-03-29 22:00
""",
        "",
    )


@pytest.mark.parametrize(
    ("zone", "at", "shown"),
    [
        ("Europe/Paris", "2026-06-01T00:00+09:00", "Now, Sun 2026-05-31 17:00 (CEST +02:00)"),
        ("Asia/Kathmandu", "2026-06-01T00:00", "Now, Mon 2026-06-01 00:00 (+05:45)"),
        ("Asia/Kathmandu", "2026-06-01T00:00", "  02:30 +05:45  off  Summer sale  ios"),
        ("UTC", "2026-06-01T00:00", "Now, Mon 2026-06-01 00:00 (UTC +00:00)"),
    ],
)
def test_show_prints_times_in_the_zone_of_the_calendar_with_its_abbreviation_if_it_has_one(show, zone, at, shown):
    _, out, _ = show(SALE.replace("Europe/Paris", zone), "--at", at, "--days", 1)
    assert shown in out


def test_show_says_that_there_are_no_changes(show):
    _, out, _ = show(SALE.replace('{on: "0 9 * * *", off: "30 2 * * *"}', "{start: 2020-01-01, end: 2020-01-02}"))
    assert "No changes in 14 days, until " in out


def test_show_prints_no_control_characters_of_a_name(show):
    _, out, _ = show(SALE.replace("name: Once", 'name: "On\\e[31mce\\nmore"'), "--at", "2026-06-01T00:00")
    assert "off   On [31mce more" in out
    assert "\x1b" not in out


# ------------------------------------------------------------------------------------------------------------- errors


def test_show_reports_a_wrong_calendar_with_file_and_line(show, tmp_path):
    code, out, errors = show(SALE.replace("token: b", "tokn: b"))
    assert (code, out) == (2, "")
    assert errors.splitlines() == [
        f"{tmp_path / 'calendar.yaml'}, line 4: a campaign has no token. Needed: name, token, windows.",
        "line 4: unknown key 'tokn'. Is 'token' meant? Allowed in a campaign: name, app, token, except_dates, windows, "
        "definition.",
    ]


@pytest.mark.parametrize("at", ["today", "2026-13-01", "10000-01-01", "0001-01-01T00:00+10:00"])
def test_show_refuses_a_value_of_at_that_is_not_a_time(show, at):
    code, _, errors = show(SALE, "--at", at)
    assert (code, errors) == (2, f"--at must be a moment such as 2026-07-01T00:00, not '{at}'.\n")


@pytest.mark.parametrize("days", ["0", "367", "-1"])
def test_show_refuses_a_number_of_days_out_of_range(show, days):
    code, _, errors = show(SALE, f"--days={days}")
    assert (code, errors) == (2, f"--days must be a whole number from 1 to 366, not {days}.\n")


@pytest.mark.parametrize("days", ["x", "1.5"])
def test_show_refuses_days_that_are_not_a_whole_number(show, capsys, days):
    with pytest.raises(SystemExit) as left:
        show(SALE, f"--days={days}")
    assert left.value.code == 2
    assert "--days: invalid int value" in capsys.readouterr().err


def test_the_command_ends_with_code_2_and_no_traceback_for_a_missing_file(tmp_path):
    command = [sys.executable, "-m", "airflow_batch.calendars", "show", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"{tmp_path / 'none.yaml'}: there is no such file."
    assert "Traceback" not in done.stderr


def test_show_prints_the_example_calendar():
    assert main(["show", str(EXAMPLE)]) == 0


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_picture_has_a_row_for_each_campaign_the_current_time_and_the_time_zone(show, tmp_path, matplotlib):
    picture = tmp_path / "out.svg"
    code, _, _ = show(SALE, "--at", "2026-03-28T22:00", "--days", 3, "--plot", picture)
    assert code == 0
    written = texts(picture.read_text())
    for expected in (
        "Summer sale (ios)",
        "Once",
        "now, Sat 28 Mar 2026 22:00",
        "the clocks change: CEST +02:00",
        "Local time in Europe/Paris (CET +01:00, then CEST +02:00)",
    ):
        assert expected in written
    assert "not live in this time" not in written


def test_the_picture_marks_a_campaign_that_is_not_live_and_shows_names_unchanged(show, tmp_path, matplotlib):
    show(SALE.replace("Once", "$Once$ _x^"), "--at", "2026-06-01T12:00", "--plot", tmp_path / "out.svg")
    written = texts((tmp_path / "out.svg").read_text())
    assert "$Once$ _x^" in written
    assert "not live in this time" in written


def many(count):
    rows = [
        f'- {{name: "The name of campaign {number} is long, {"very " * 9}{number}", app: android, token: t{number}, '
        f'windows: [{{on: "0 {number % 20} * * *", off: "30 {number % 20 + 2} * * *"}}]}}'
        for number in range(count)
    ]
    return "\n".join(("timezone: Europe/Paris", "campaigns:", *rows))


def test_the_picture_of_a_year_labels_the_first_change_of_the_clocks_and_shortens_long_names(
    show, tmp_path, matplotlib
):
    picture = tmp_path / "out.svg"
    assert show(many(1), "--at", "2026-03-01", "--days", 366, "--plot", picture)[0] == 0
    written = texts(picture.read_text())
    assert len([text for text in written if text.startswith("the clocks change: ")]) == 1
    assert [text for text in written if re.fullmatch(r"The name of campaign 0 .*….*very 0 \(android\)", text)]


def test_the_picture_can_be_a_png(show, tmp_path, matplotlib):
    show(SALE, "--plot", tmp_path / "out.PNG")
    assert (tmp_path / "out.PNG").read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_refused_with_another_suffix_a_missing_folder_or_too_many_campaigns(show, tmp_path, matplotlib):
    assert show(SALE, "--plot", tmp_path / "out.pdf")[0] == 2
    code, out, errors = show(SALE, "--plot", tmp_path / "none" / "out.svg")
    assert (code, out) == (2, "")
    assert "out.svg: cannot be written: No such file or directory." in errors
    assert "501 campaigns; a picture holds at most 500." in show(many(501), "--plot", tmp_path / "out.svg")[2]


def test_the_picture_is_refused_without_matplotlib_and_the_error_says_what_to_install(show, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, errors = show(SALE, "--plot", tmp_path / "out.svg")
    assert (code, out) == (2, "")
    assert "pip install 'airflow-provider-batch[plot]'" in errors
