"""Many campaigns from one file: ``campaign_calendar.yaml``, next to this one, says what should be live when.

The DAG runs at every change in the calendar, and every 15 minutes to compare Batch with the calendar. One task updates
the campaigns that differ. Campaigns that the calendar does not name are never touched. Before you merge a change, run
``python -m airflow_batch.calendars show campaign_calendar.yaml --days 14``.
"""

from __future__ import annotations

# [START dag]
from airflow_batch.calendar_dag import campaign_calendar_dag

dag = campaign_calendar_dag(
    "campaign_calendar.yaml", dag_id="campaign_calendar", max_changes=10, tags=["batch", "example"], doc_md=__doc__
)
# [END dag]
