"""A calendar in words, for the shell, the picture and the DAG's page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import cache
from itertools import groupby
from operator import itemgetter

import pendulum

from airflow_batch._airflow.crons import PRESETS
from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar
from airflow_batch.windows import CampaignWindow

MAX_NAME = 60
"""Characters of a name in the shell."""


def offset_words(moment: datetime, timezone: str) -> str:
    """Return what the clocks show at a moment: ``CEST +02:00``, and ``+05:45`` where the zone has no abbreviation."""
    local = pendulum.instance(moment).in_timezone(timezone)
    return local.format("Z" if (local.tzname() or "+")[0] in "+-" else "zz Z")


def name_words(campaign: CalendarCampaign, most: int | None = None) -> str:
    """Return a campaign's name in one line, cut in the middle where it is longer than ``most`` characters."""
    name = "".join(letter if letter.isprintable() else " " for letter in " ".join(campaign.name.split()))
    if most is None or len(name) <= most:
        return name
    return f"{name[: most * 2 // 3].rstrip()}…{name[most * 2 // 3 + 1 - most :].lstrip()}"


def window_words(window: CampaignWindow) -> str:
    """Return a window as a sentence would say it, exceptions included."""
    if window.start is not None and window.end is not None:
        zone = window.timezone
        start, end = (
            f"{moment.format('YYYY-MM-DD HH:mm')} ({offset_words(moment, zone)})"
            for moment in (pendulum.instance(edge).in_timezone(zone) for edge in (window.start, window.end))
        )
        words = f"from {start} to {end}"
    else:
        words = f"on {_cron_words(window.on or '')}; off {_cron_words(window.off or '')}"
    days = ", ".join(day.isoformat() for day in window.except_dates)
    return f"{words}; not on {days}" if days else words


@cache
def _cron_words(cron: str) -> str:
    from airflow.timetables.trigger import CronTriggerTimetable

    words = CronTriggerTimetable(PRESETS.get(cron, cron), timezone="UTC").description
    return f"{words[:1].lower()}{words[1:]} (`{cron}`)" if words else f"`{cron}`"


def show_lines(calendar: CampaignCalendar, now: datetime, days: int) -> Iterator[str]:
    """Yield the lines that show a calendar: the state at ``now``, then the changes of the next ``days`` days.

    :param now: An aware datetime.
    :raises BatchConfigurationError: when it is naive or no datetime.
    """
    zone = calendar.timezone
    names = {id(campaign): name_words(campaign, MAX_NAME) for campaign in calendar.campaigns}
    width = max(map(len, names.values()))
    local = pendulum.instance(now).in_timezone(zone)
    until = local.add(days=days)
    total = len(calendar.campaigns)
    yield f"{calendar.path.name}: {total} campaign{'' if total == 1 else 's'}, times in {zone}"
    yield ""
    yield f"Now, {local.format('ddd YYYY-MM-DD HH:mm')} ({offset_words(local, zone)})"
    for campaign in calendar.campaigns:
        state = "live" if campaign.is_live_at(now) else "off"
        yield f"  {state:<4}  {names[id(campaign)]:<{width}}  {campaign.app or ''}".rstrip()
    changes = [(moment.in_timezone(zone), item, live) for moment, item, live in calendar.changes(now, until)]
    for day, of_day in groupby(changes, key=lambda change: change[0].date()):
        yield ""
        yield f"{day:%a} {day.isoformat()}{_clocks(day, zone)}"
        found = (
            (f"{moment.format('HH:mm')} {offset_words(moment, zone)}  {'on' if live else 'off':<3}", campaign)
            for moment, campaign, live in of_day
        )
        for text, name, apps in _with_apps(found):
            yield f"  {text}  {name:<{width}}  {apps}".rstrip()
    excluded = [
        (day.isoformat(), campaign)
        for campaign in calendar.campaigns
        for day in excluded_dates(campaign, local.date(), until.date())
    ]
    if excluded:
        yield ""
        yield "Excluded dates (except_dates)"
    for text, name, apps in _with_apps(sorted(excluded, key=itemgetter(0))):
        yield f"  {text}  {name:<{width}}  {apps}".rstrip()
    yield ""
    count = len(changes) or "No"
    span = "1 day" if days == 1 else f"{days} days"
    yield f"{count} change{'' if count == 1 else 's'} in {span}, until {until.format('ddd YYYY-MM-DD HH:mm')}"


def _clocks(day: date, zone: str) -> str:
    """Return a note for a day on which the clocks change."""
    midnight = pendulum.datetime(day.year, day.month, day.day, tz=zone)
    after = midnight.add(days=1)
    shift = (after.utcoffset() or timedelta(0)) - (midnight.utcoffset() or timedelta(0))
    if not shift:
        return ""
    way = "forward" if shift > timedelta(0) else "back"
    before, then = offset_words(midnight, zone), offset_words(after, zone)
    return f"  (the clocks go {way} {abs(shift) // timedelta(minutes=1)} min: {before} to {then})"


def excluded_dates(campaign: CalendarCampaign, first: date, last: date) -> list[date]:
    """Return the dates from ``first`` to ``last`` that all windows of a campaign exclude."""
    days = set.intersection(*(set(window.except_dates) for window in campaign.windows))
    return sorted(day for day in days if first <= day <= last)


def _with_apps(found: Iterable[tuple[str, CalendarCampaign]]) -> Iterator[tuple[str, str, str]]:
    """Yield text, name and apps: the campaigns of one text and one name that have an app share a line."""
    lines: dict[tuple[str, str | int], list[CalendarCampaign]] = {}
    for text, campaign in found:
        lines.setdefault((text, campaign.name if campaign.app else id(campaign)), []).append(campaign)
    for (text, _), together in lines.items():
        yield text, name_words(together[0], MAX_NAME), ", ".join(campaign.app or "" for campaign in together)
