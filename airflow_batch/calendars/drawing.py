"""A calendar as a picture: a row for each campaign, a bar while it is live, now marked. Needs matplotlib."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar
from airflow_batch.calendars.words import name_words, offset_words
from airflow_batch.exceptions import BatchConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
MAX_CAMPAIGNS = 500
MAX_NAME = 40
MAX_HOURS, MAX_DAYS = 15, 18
"""Labels that have room below the picture."""

BAR, NOW, CLOCKS = "#0072B2", "#D55E00", "#555555"
"""Blue and vermilion of Okabe and Ito, which colour-blind people tell apart; the lines differ in their dashes too."""

_WIDTH, _ROW = 12.0, 0.32
"""Inches."""
_HOURS = (1, 2, 3, 6, 12)
_DAYS = (1, 2, 7, 14, 28)
_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text, to be searched and read aloud
    "svg.hashsalt": "airflow_batch",
    "axes.unicode_minus": False,
}


def draw_calendar(calendar: CampaignCalendar, now: datetime, days: int, path: Path) -> None:
    """Draw from the local midnight before ``now``, or a little earlier, to ``days`` days after it.

    :param now: An aware datetime.
    :param path: The picture, ``.svg`` or ``.png``; replaced if it is there.
    :raises BatchConfigurationError: for another suffix, more than 500 campaigns, a file that cannot be written, and
        where matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BatchConfigurationError(f"{path}: a picture's name must end in {' or '.join(SUFFIXES)}.")
    if len(calendar.campaigns) > MAX_CAMPAIGNS:
        raise BatchConfigurationError(
            f"{calendar.path}: {len(calendar.campaigns)} campaigns; a picture holds at most {MAX_CAMPAIGNS}."
        )
    try:
        from matplotlib import rc_context
    except ImportError:
        raise BatchConfigurationError("Drawing needs matplotlib: pip install 'airflow-provider-batch[plot]'") from None
    form = path.suffix.lower()[1:]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # Airflow would print its notes on fonts to stdout
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG's reader has fonts of his own
        figure = _figure(calendar, pendulum.instance(now).in_timezone(calendar.timezone), days)
        try:
            figure.savefig(path, format=form, dpi=110, metadata={"Date": None} if form == "svg" else None)
        except OSError as error:
            raise BatchConfigurationError(f"{path}: cannot be written: {error.strerror}.") from None


def _figure(calendar: CampaignCalendar, now: pendulum.DateTime, days: int) -> Figure:
    from matplotlib.figure import Figure

    zone, rows = calendar.timezone, len(calendar.campaigns)
    first = now.subtract(minutes=90 * days).start_of("day")
    last = now.add(days=days)
    labels = [_label(campaign) for campaign in calendar.campaigns]
    left = 0.35 + 0.082 * max(map(len, labels))
    clocks = _clock_changes(zone, first, last)
    top, bottom = 0.98 if clocks else 0.77, 0.8
    height = rows * _ROW + top + bottom
    figure = Figure(figsize=(_WIDTH + left, height), facecolor="white")
    axes = figure.add_axes(
        (left / (_WIDTH + left), bottom / height, (_WIDTH - 0.35) / (_WIDTH + left), rows * _ROW / height)
    )
    axes.set_xlim(first.timestamp(), last.timestamp())
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks(range(rows), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    _rows(axes, calendar, first, last)
    _ticks(axes, first, last)
    for moment in clocks:
        axes.axvline(moment.timestamp(), color=CLOCKS, linestyle=":", linewidth=1.6, zorder=4)
    _marked(axes, now, f"now, {now.format('ddd D MMM YYYY HH:mm')}", NOW, row=0)
    for moment in clocks[:1]:
        _marked(axes, moment, f"the clocks change: {offset_words(moment, zone)}", CLOCKS, row=1)
    axes.axvline(now.timestamp(), color=NOW, linestyle="--", linewidth=1.8, zorder=5)
    places = [offset_words(first, zone), *(offset_words(moment, zone) for moment in clocks)]
    axes.set_xlabel(f"Local time in {zone} ({', then '.join(places)})", labelpad=8)
    figure.text(
        0.1 / (_WIDTH + left),
        1 - 0.12 / height,
        f"{calendar.path.name}: the bars are when campaigns are live",
        fontsize=13,
        fontweight="bold",
        verticalalignment="top",
        parse_math=False,
    )
    return figure


def _label(campaign: CalendarCampaign) -> str:
    return name_words(campaign, MAX_NAME) + (f" ({campaign.app})" if campaign.app else "")


def _rows(axes: Axes, calendar: CampaignCalendar, first: pendulum.DateTime, last: pendulum.DateTime) -> None:
    edges: dict[int, list[float]] = {id(campaign): [] for campaign in calendar.campaigns}
    for moment, campaign, _ in calendar.changes(first, last):
        edges[id(campaign)].append(moment.timestamp())
    for row, campaign in enumerate(calendar.campaigns):
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
        moments = [*edges[id(campaign)], last.timestamp()]
        if campaign.is_live_at(first):
            moments.insert(0, first.timestamp())
        bars = [(begin, end - begin) for begin, end in zip(moments[::2], moments[1::2], strict=False)]
        if bars:
            # The edge keeps a bar of minutes visible in a picture of weeks.
            axes.broken_barh(bars, (row - 0.31, 0.62), facecolor=BAR, edgecolor=BAR, linewidth=0.8, zorder=3)
            continue
        axes.annotate(
            "not live in this time",
            (last.timestamp(), row),
            xytext=(-6, 0),
            textcoords="offset points",
            color="#555555",
            fontsize=9,
            style="italic",
            horizontalalignment="right",
            verticalalignment="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            zorder=6,
        )


def _ticks(axes: Axes, first: pendulum.DateTime, last: pendulum.DateTime) -> None:
    span = last - first
    hours = next((step for step in _HOURS if span.total_seconds() / 3600 / step <= MAX_HOURS), None)
    if hours and hours < 12:
        ticks = [moment for moment in _midnights(first, last, 1) for moment in _within(moment, hours) if moment <= last]
        labels = [tick.format("HH:mm\nddd D MMM" if tick.hour == 0 else "HH:mm") for tick in ticks]
    else:
        days = next((step for step in _DAYS if span.total_days() / step <= MAX_DAYS), _DAYS[-1])
        ticks = list(_midnights(first, last, days))
        labels = [tick.format("ddd\nD MMM") for tick in ticks]
    axes.set_xticks([tick.timestamp() for tick in ticks], labels)
    axes.grid(axis="x", color="#D8D8D8", linewidth=0.8, zorder=1)
    axes.set_axisbelow(True)


def _midnights(first: pendulum.DateTime, last: pendulum.DateTime, step: int) -> Iterator[pendulum.DateTime]:
    day = first
    while day <= last:
        yield day
        day = day.add(days=step).start_of("day")


def _within(midnight: pendulum.DateTime, step: int) -> Iterator[pendulum.DateTime]:
    for hour in range(0, 24, step):
        tick = midnight.set(hour=hour)
        if tick.hour == hour:  # else the clocks skip it
            yield tick


def _clock_changes(zone: str, first: pendulum.DateTime, last: pendulum.DateTime) -> list[pendulum.DateTime]:
    """Return the moments between the two at which the clocks of the zone change."""
    found, hour = [], timedelta(minutes=30)
    begin, end = first.in_timezone("UTC"), last.in_timezone("UTC")
    while begin < end:
        after = begin + hour
        if begin.in_timezone(zone).utcoffset() != after.in_timezone(zone).utcoffset():
            found.append(after.in_timezone(zone))
        begin = after
    return found


def _marked(axes: Axes, moment: pendulum.DateTime, text: str, colour: str, row: int) -> None:
    """Write what a line marks above the picture, on the side of the line where there is room."""
    first, last = axes.get_xlim()
    right = moment.timestamp() > (first + last) / 2
    axes.annotate(
        text,
        (moment.timestamp(), 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if right else 4, 6 + 15 * row),
        textcoords="offset points",
        horizontalalignment="right" if right else "left",
        color=colour,
        fontsize=10,
        fontweight="bold" if row == 0 else "normal",
        annotation_clip=False,
    )
