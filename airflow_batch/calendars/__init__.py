"""A calendar file: which campaigns should be live when. ``python -m airflow_batch.calendars show`` is the command.

``model.py`` has the calendar, ``nodes.py`` and ``reading.py`` read it from a file, ``schedule.py`` has the crons of its
DAG, ``words.py`` and ``drawing.py`` show it. ``airflow_batch/calendar_dag.py`` makes the DAG.
"""

from __future__ import annotations

from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar, LiveWindows
from airflow_batch.calendars.reading import read_calendar

__all__ = ["CalendarCampaign", "CampaignCalendar", "LiveWindows", "read_calendar"]
