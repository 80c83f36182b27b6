"""A calendar as a picture: a row for each campaign, a bar while it is live, now marked. Needs matplotlib."""

from __future__ import annotations

import logging
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pendulum

from airflow_batch.calendars.model import CampaignCalendar
from airflow_batch.calendars.schedule import clock_changes
from airflow_batch.calendars.words import excluded_dates, name_words, offset_words
from airflow_batch.exceptions import BatchConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
MAX_CAMPAIGNS = 500
MAX_NAME = 40
WIDTH_INCHES, ROW_INCHES, FRAME_INCHES = 14.0, 0.32, 1.9

# Blue and vermilion of Okabe and Ito, which colour-blind people can distinguish; the lines also differ in dashes.
BAR, NOW, CLOCKS = "#0072B2", "#D55E00", "#555555"
TICK_FORMATS = {1 / 24: "%H:%M\n%a %d %b", 1.0: "%a\n%d %b", 30.0: "%b\n%Y"}
"""By the unit of the ticks in days."""
SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "svg.fonttype": "none",  # text stays text, to be searched and read aloud
    "svg.hashsalt": "airflow_batch",
}


def draw_calendar(calendar: CampaignCalendar, now: datetime, days: int, path: Path) -> None:
    """Draw from the local midnight before ``now``, or a little earlier, to ``days`` days after it.

    :param now: An aware datetime.
    :param path: The picture, ``.svg`` or ``.png``; replaced if it is there.
    :raises BatchConfigurationError: for another suffix, more than 500 campaigns, a file that cannot be written, and
        where matplotlib is not installed.
    """
    form = path.suffix.lower()
    if form not in SUFFIXES:
        raise BatchConfigurationError(f"{path}: a picture's name must end in {' or '.join(SUFFIXES)}.")
    if len(calendar.campaigns) > MAX_CAMPAIGNS:
        raise BatchConfigurationError(
            f"{calendar.path}: {len(calendar.campaigns)} campaigns; a picture holds at most {MAX_CAMPAIGNS}."
        )
    try:
        from matplotlib import rc_context
    except ImportError:
        raise BatchConfigurationError("Drawing needs matplotlib: pip install 'airflow-provider-batch[plot]'") from None
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # Airflow would print its messages about fonts
    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG is shown with the reader's fonts
        figure = _figure(calendar, pendulum.instance(now).in_timezone(calendar.timezone), days)
        try:
            figure.savefig(path, format=form[1:], dpi=110, metadata={"Date": None} if form == ".svg" else None)
        except OSError as error:
            raise BatchConfigurationError(f"{path}: cannot be written: {error.strerror}.") from None


def _figure(calendar: CampaignCalendar, now: pendulum.DateTime, days: int) -> Figure:
    from matplotlib.figure import Figure

    zone, rows = calendar.timezone, len(calendar.campaigns)
    first, last = now.subtract(minutes=90 * days).start_of("day"), now.add(days=days)
    clocks = [moment for moment, _ in clock_changes(zone, first, last)]
    figure = Figure((WIDTH_INCHES, rows * ROW_INCHES + FRAME_INCHES), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    is_hatched = any(excluded_dates(campaign, first.date(), last.date()) for campaign in calendar.campaigns)
    title = f"{calendar.path.name}: the bars are when campaigns are live"
    title += "; hatched: excluded dates" if is_hatched else ""
    axes.set_title(title, loc="left", pad=45 if clocks else 30, fontsize=13, fontweight="bold", parse_math=False)
    axes.set_ylim(rows - 0.5, -0.5)
    labels = [name_words(item, MAX_NAME) + (f" ({item.app})" if item.app else "") for item in calendar.campaigns]
    axes.set_yticks(range(rows), labels, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _time_axis(axes, zone, first, last)
    _rows(axes, calendar, first, last)
    middle = first + (last - first) / 2
    marks: list[tuple[datetime, str, str, str, int]] = [
        (now, NOW, "--", f"now, {now.format('ddd D MMM YYYY HH:mm')}", 6)
    ]
    marks += [(moment, CLOCKS, ":", f"the clocks change: {offset_words(moment, zone)}", 21) for moment in clocks]
    for moment, colour, dashes, text, height in marks[::-1]:
        axes.axvline(_x(moment), color=colour, linestyle=dashes, linewidth=1.7, zorder=4)
        if moment in (now, *clocks[:1]):  # on the side of the line that has more space
            side, shift = ("right", -4) if moment > middle else ("left", 4)
            place: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(text, (_x(moment), 1), (shift, height), ha=side, color=colour, annotation_clip=False, **place)
    offsets = ", then ".join(offset_words(moment, zone) for moment in (first, *clocks))
    axes.set_xlabel(f"Local time in {zone} ({offsets})", labelpad=8)
    return figure


def _time_axis(axes: Axes, zone: str, first: datetime, last: datetime) -> None:
    from matplotlib.dates import AutoDateFormatter, AutoDateLocator

    locator: Any = AutoDateLocator(tz=ZoneInfo(zone), minticks=7, maxticks=13)  # type: ignore[no-untyped-call]
    formatter: Any = AutoDateFormatter(locator, tz=ZoneInfo(zone))  # type: ignore[no-untyped-call]
    formatter.scaled = TICK_FORMATS
    axes.set_xlim(_x(first), _x(last))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.grid(axis="x", color="#D8D8D8", linewidth=0.8)
    axes.set_axisbelow(True)


def _rows(axes: Axes, calendar: CampaignCalendar, first: datetime, last: datetime) -> None:
    edges: dict[int, list[float]] = {
        id(campaign): [_x(first)] if campaign.is_live_at(first) else [] for campaign in calendar.campaigns
    }
    for moment, campaign, _ in calendar.changes(first, last):
        edges[id(campaign)].append(_x(moment))
    for row, (campaign, moments) in enumerate(zip(calendar.campaigns, edges.values(), strict=True)):
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
        bars = [(begin, end - begin) for begin, end in zip(moments[::2], [*moments[1::2], _x(last)], strict=False)]
        # The edge keeps a bar of minutes visible in a picture of weeks.
        axes.broken_barh(bars, (row - 0.31, 0.62), facecolor=BAR, edgecolor=BAR, linewidth=0.8, zorder=3)
        for day in excluded_dates(campaign, first.date(), last.date()):
            midnight = pendulum.datetime(day.year, day.month, day.day, tz=calendar.timezone)
            begin, end = _x(max(midnight, first)), _x(min(midnight.add(days=1), last))
            place: Any = ([(begin, end - begin)], (row - 0.31, 0.62))
            axes.broken_barh(*place, facecolor="none", edgecolor=CLOCKS, hatch="///", linewidth=0)
        if not bars:
            axes.text(_x(last), row, "not live in this time", ha="right", va="center", style="italic", color=CLOCKS)


def _x(moment: datetime) -> float:
    """Return where a moment is in the picture: matplotlib counts days since 1970."""
    return moment.timestamp() / 86_400
