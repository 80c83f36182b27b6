"""``python -m airflow_batch.calendars show``: what it prints, what it draws, how it refuses."""

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


def test_it_prints_the_state_and_the_changes_by_local_day_across_a_change_of_the_clocks(show):
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


def test_a_moment_with_an_offset_is_shown_in_the_calendars_zone(show):
    _, out, _ = show(SALE, "--at", "2026-06-01T00:00+09:00")
    assert "Now, Sun 2026-05-31 17:00 (CEST +02:00)" in out


def test_a_zone_without_an_abbreviation_shows_its_offset_alone(show):
    _, out, _ = show(SALE.replace("Europe/Paris", "Asia/Kathmandu"), "--at", "2026-06-01T00:00", "--days", 1)
    assert "Now, Mon 2026-06-01 00:00 (+05:45)" in out
    assert "  02:30 +05:45  off  Summer sale  ios" in out


def test_utc_is_shown_as_utc(show):
    _, out, _ = show(SALE.replace("Europe/Paris", "UTC"), "--at", "2026-06-01T00:00")
    assert "Now, Mon 2026-06-01 00:00 (UTC +00:00)" in out


def test_without_changes_it_says_so(show):
    _, out, _ = show(SALE.replace('{on: "0 9 * * *", off: "30 2 * * *"}', "{start: 2020-01-01, end: 2020-01-02}"))
    assert "No changes in 14 days, until " in out


def test_control_characters_of_a_name_do_not_reach_the_shell(show):
    _, out, _ = show(SALE.replace("name: Once", 'name: "On\\e[31mce\\nmore"'), "--at", "2026-06-01T00:00")
    assert "off   On [31mce more" in out
    assert "\x1b" not in out


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_broken_calendar_is_an_error_with_file_and_line(show, tmp_path):
    code, out, errors = show(SALE.replace("token: b", "tokn: b"))
    assert (code, out) == (2, "")
    assert errors.splitlines() == [
        f"{tmp_path / 'calendar.yaml'}, line 4: a campaign has no token. Needed: name, token, windows.",
        "line 4: unknown key 'tokn'. Is 'token' meant? Allowed in a campaign: name, app, token, except_dates, windows, "
        "definition.",
    ]


@pytest.mark.parametrize("at", ["today", "2026-13-01", "10000-01-01", "0001-01-01T00:00+10:00"])
def test_what_is_no_moment_is_an_error(show, at):
    code, _, errors = show(SALE, "--at", at)
    assert (code, errors) == (2, f"--at must be a moment such as 2026-07-01T00:00, not '{at}'.\n")


@pytest.mark.parametrize("days", ["0", "367", "-1"])
def test_a_number_of_days_out_of_range_is_an_error(show, days):
    code, _, errors = show(SALE, f"--days={days}")
    assert (code, errors) == (2, f"--days must be a whole number from 1 to 366, not {days}.\n")


@pytest.mark.parametrize("days", ["x", "1.5"])
def test_days_that_are_no_whole_number_are_an_error(show, capsys, days):
    with pytest.raises(SystemExit) as left:
        show(SALE, f"--days={days}")
    assert left.value.code == 2
    assert "--days: invalid int value" in capsys.readouterr().err


def test_as_a_command_it_leaves_no_traceback_and_says_2(tmp_path):
    command = [sys.executable, "-m", "airflow_batch.calendars", "show", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"{tmp_path / 'none.yaml'}: there is no such file."
    assert "Traceback" not in done.stderr


def test_the_example_can_be_shown():
    assert main(["show", str(EXAMPLE)]) == 0


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_picture_has_a_row_for_each_campaign_now_and_the_time_zone(show, tmp_path, matplotlib):
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


def test_the_same_calendar_is_the_same_picture(show, tmp_path, matplotlib):
    for name in ("one.svg", "two.svg"):
        show(SALE, "--at", "2026-06-01T12:00", "--plot", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_campaign_that_is_not_live_says_so_and_a_name_is_not_taken_for_a_formula(show, tmp_path, matplotlib):
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


@pytest.mark.parametrize(
    ("count", "at", "days"),
    [
        (1, "2026-06-01T00:00", 14),
        (3, "2026-10-24T23:50", 1),
        (3, "2026-03-28T12:00", 2),
        (60, "2026-03-20", 14),
        (3, "2026-03-01", 60),
        (1, "2026-03-01", 366),
    ],
)
def test_no_two_texts_overlap_and_all_lie_in_the_picture(tmp_path, matplotlib, monkeypatch, count, at, days):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(boxes(figure)))

    def boxes(figure):
        FigureCanvasAgg(figure).draw()
        shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        return figure.bbox, [(text.get_text(), text.get_window_extent()) for text in shown]

    (tmp_path / "calendar.yaml").write_text(many(count))
    main(
        ["show", str(tmp_path / "calendar.yaml"), "--at", at, "--days", str(days), "--plot", str(tmp_path / "out.png")]
    )
    ((page, found),) = saved
    assert len(found) > count + 3
    for index, (text, box) in enumerate(found):
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text
        assert not [other for other, place in found[:index] if box.overlaps(place)], text


def test_a_png_is_a_png(show, tmp_path, matplotlib):
    show(SALE, "--plot", tmp_path / "out.PNG")
    assert (tmp_path / "out.PNG").read_bytes().startswith(b"\x89PNG")


def test_another_suffix_a_missing_folder_and_too_many_rows_are_errors(show, tmp_path, matplotlib):
    assert show(SALE, "--plot", tmp_path / "out.pdf")[0] == 2
    code, out, errors = show(SALE, "--plot", tmp_path / "none" / "out.svg")
    assert (code, out) == (2, "")
    assert "out.svg: cannot be written: No such file or directory." in errors
    assert "501 campaigns; a picture holds at most 500." in show(many(501), "--plot", tmp_path / "out.svg")[2]


def test_without_matplotlib_the_error_says_what_to_install(show, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, errors = show(SALE, "--plot", tmp_path / "out.svg")
    assert (code, out) == (2, "")
    assert "pip install 'airflow-provider-batch[plot]'" in errors
