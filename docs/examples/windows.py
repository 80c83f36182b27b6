"""Windows of each kind. Not a DAG."""

from __future__ import annotations

from airflow_batch.windows import CampaignWindow

# [START kinds]
# On and off by cron, in the zone's own time, also over the changes of its clocks.
office_hours = CampaignWindow(on="0 9 * * 1-5", off="0 18 * * 1-5", timezone="Europe/Paris")

# Across midnight: Friday and Saturday nights.
nights = CampaignWindow(on="0 22 * * 5,6", off="0 2 * * 6,0", timezone="Europe/Paris")

# Once.
flash_weekend = CampaignWindow(start="2026-07-04T10:00", end="2026-07-05T20:00", timezone="Europe/Paris")

# Not on these days, by the zone's calendar.
not_at_christmas = CampaignWindow(
    on="0 9 * * *", off="0 21 * * *", timezone="Europe/Paris", except_dates=["2026-12-25"]
)
# [END kinds]
