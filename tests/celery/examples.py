"""The example DAGs on one sandbox: the campaigns and the conf of each, and the state that it must reach.

Not here: what they do when something goes wrong, see ``tests/system/test_scheduler.py``.
"""

from __future__ import annotations

import runpy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samples import MORNING_NEWS

from airflow_batch.calendars import read_calendar
from airflow_batch.sandbox import BatchSandbox

FOLDER = Path(__file__).resolve().parents[2] / "dags_examples"
# approve_campaign waits for a person.
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("demo", "approve_campaign"))
CALENDAR = FOLDER / "campaign_calendar.yaml"
STATS = {"date": "2026-11-22", "sent": 10, "direct_open": 2, "influenced_open": 1, "errors": 0}


class Examples:
    """A sandbox in which every campaign is what its example must change."""

    def __init__(self, sandbox: BatchSandbox) -> None:
        self.sandbox = sandbox
        now = datetime.now(UTC)
        window = {
            name: runpy.run_path(str(FOLDER / f"{name}.py"))["window"] for name in ("summer_sale", "both_platforms")
        }
        due = {name: found.is_live_at(now) for name, found in window.items()}
        self.planned = read_calendar(CALENDAR).campaigns
        self.desired: dict[str, dict[str, bool]] = {
            "summer_sale": self._add(due["summer_sale"]),
            "both_platforms": self._add(due["both_platforms"]) | self._add(due["both_platforms"], app="android"),
            "scheduled_campaign_toggle": self._add(True),
            "stop_on_failure": self._add(False),
            "sync_from_query": self._add(True),
            "launch_campaign": {},
            "campaign_calendar": {},
        }
        calendar = CALENDAR.read_text()
        for planned in self.planned:
            added = self._add(planned.is_live_at(now), planned.app, planned.name)
            calendar = calendar.replace(planned.token, next(iter(added)))
            self.desired["campaign_calendar"] |= added
        readme = (FOLDER / "summer_sale.py").read_text()
        readme = readme.replace("545fce15f8b04d5b9b1d5c8e3a7c9d20", next(iter(self.desired["summer_sale"])))
        readme = readme.replace('task_id="toggle"', 'task_id="toggle", app="ios"')  # this connection has two apps
        copied = [FOLDER / f"{name}.py" for name in NAMES if name != "summer_sale"]
        self.files = [*FOLDER.glob("*.json"), *copied, (CALENDAR.name, calendar), ("summer_sale.py", readme)]

    def _add(self, live: bool, app: str = "ios", name: str = "Morning news") -> dict[str, bool]:
        return {self.sandbox.add_campaign({**MORNING_NEWS, "name": name, "live": not live}, app=app): live}

    def conf(self, name: str) -> dict[str, Any]:
        tokens = list(self.desired[name])
        match name:
            case "both_platforms":
                return {"campaigns": [{"app": "ios", "campaign": tokens[0]}, {"app": "android", "campaign": tokens[1]}]}
            case "launch_campaign":
                return {"name": "Launched"}
            case "sync_from_query":
                return {"rows": [{"token": tokens[0], "app": "ios", "name": "Morning news", "in_stock": 3}]}
            case "campaign_calendar":
                return {}
        asked = {"scheduled_campaign_toggle": {"app": "ios", "live": "on"}, "stop_on_failure": {"offers": []}}
        return {"campaign": tokens[0], **asked.get(name, {})}

    def launched(self) -> list[str]:
        """What launch_campaign has created."""
        return [token for token in self.sandbox.tokens("ios") if self.sandbox.campaign(token)["name"] == "Launched"]

    def add_statistics(self) -> None:
        """Give what is launched its first statistics, for which launch_campaign waits."""
        for token in self.launched():
            if self.sandbox.campaign(token)["live"]:
                self.sandbox.set_stats(token, [STATS])

    def states(self, name: str) -> dict[str, bool]:
        return {token: self.sandbox.campaign(token)["live"] for token in self.desired[name]}
