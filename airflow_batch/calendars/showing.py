"""A calendar as text: what is live now, and the coming changes by local day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import groupby

import pendulum

from airflow_batch.calendars.model import CampaignCalendar
from airflow_batch.calendars.words import name_words, offset_words

MAX_NAME = 60


def show_lines(calendar: CampaignCalendar, now: datetime, days: int) -> Iterator[str]:
    """Yield the lines that tell a calendar: the state at ``now``, then the changes of the next ``days`` days.

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
        for moment, campaign, live in of_day:
            state = "on" if live else "off"
            clock = f"{moment.format('HH:mm')} {offset_words(moment, zone)}"
            yield f"  {clock}  {state:<3}  {names[id(campaign)]:<{width}}  {campaign.app or ''}".rstrip()
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
