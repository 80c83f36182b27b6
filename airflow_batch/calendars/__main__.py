"""A calendar from the shell: ``python -m airflow_batch.calendars show calendar.yaml``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pendulum

from airflow_batch._values import as_datetime, aware_utc, whole_number
from airflow_batch.calendars import CampaignCalendar, read_calendar
from airflow_batch.calendars.words import show_lines
from airflow_batch.exceptions import BatchConfigurationError

MAX_DAYS = 366


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_batch.calendars", description="Show a calendar file of Batch campaigns."
    )
    show = parser.add_subparsers(dest="command", required=True).add_parser(
        "show", help="check a calendar, print what is live and the coming changes, draw them"
    )
    show.add_argument("calendar", type=Path, help="the YAML file")
    show.add_argument("--days", type=int, default=14, help=f"days to show, 1 to {MAX_DAYS} (default 14)")
    show.add_argument("--at", metavar="MOMENT", help="instead of now, such as 2026-07-01T00:00; in the calendar's zone")
    show.add_argument("--plot", type=Path, metavar="FILE", help="draw the changes into this .svg or .png file")
    return parser


def _moment(text: str | None, calendar: CampaignCalendar) -> datetime:
    moment = datetime.now(UTC) if text is None else as_datetime(text)
    if moment is not None and moment.utcoffset() is None:
        return pendulum.instance(moment, tz=calendar.timezone)
    if moment := aware_utc(moment):
        return moment
    raise BatchConfigurationError(f"--at must be a moment such as 2026-07-01T00:00, not {text!r}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error, which is written to stderr."""
    options = _parser().parse_args(arguments)
    try:
        whole_number("--days", options.days, 1, MAX_DAYS)
        calendar = read_calendar(options.calendar)
        now = _moment(options.at, calendar)
        if options.plot:
            from airflow_batch.calendars.drawing import draw_calendar

            draw_calendar(calendar, now, options.days, options.plot)
        for line in show_lines(calendar, now, options.days):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BatchConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:  # the reader of a pipe has ended, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
