"""The Airflow plugin that registers the timetable of calendars with each component. The wheel has its entry point."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_batch.timetables.calendars import CalendarTimetable


class BatchPlugin(AirflowPlugin):
    """Registers the timetable of campaign calendars."""

    name = "airflow_batch"
    timetables = [CalendarTimetable]
