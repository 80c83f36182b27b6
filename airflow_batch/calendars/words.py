"""A calendar's moments, zones and windows in words, for the shell, the picture and the DAG's page."""

from __future__ import annotations

from datetime import datetime

import pendulum

from airflow_batch.calendars.model import CalendarCampaign
from airflow_batch.crons import PRESETS
from airflow_batch.windows import CampaignWindow


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


def _cron_words(cron: str) -> str:
    from airflow.timetables.trigger import CronTriggerTimetable

    words = CronTriggerTimetable(PRESETS.get(cron, cron), timezone="UTC").description
    return f"{words[:1].lower()}{words[1:]} (`{cron}`)" if words else f"`{cron}`"
