"""A calendar file: which campaigns should be live when. ``python -m airflow_batch.calendars show`` is the command.

``model.py`` is what a calendar is, ``nodes.py`` and ``reading.py`` how a file becomes one, ``schedule.py`` when Airflow
runs, ``words.py`` and ``drawing.py`` how a person sees it. Its DAG is made in ``airflow_batch/calendar_dag.py``.
"""

from __future__ import annotations

from airflow_batch.calendars.model import CalendarCampaign, CampaignCalendar, LiveWindows
from airflow_batch.calendars.reading import read_calendar

__all__ = ["CalendarCampaign", "CampaignCalendar", "LiveWindows", "read_calendar"]
