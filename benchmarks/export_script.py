"""What an export is compared with: the script that one writes first, with requests, urllib3's Retry and csv.

``python export_script.py FOLDER``; the connection is the JSON in the environment variable CONNECTION. It knows the
shapes of Batch's answers, those of an A/B test included, and repeats what fails. Where that does not help, it ends with
an error.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

PAGE = 100
CAMPAIGNS = ["campaign_token", "name", "live", "from_api", "created_date", "push_time", "labels"]
MESSAGES = ["campaign_token", "variant", "language", "title", "body", "deeplink"]
COUNTERS = ["sent", "sent_optins", "direct_open", "influenced_open", "reengaged", "errors"]
STATS = ["campaign_token", "date", "variant", *COUNTERS, "open_rate"]


def new_session(connection):
    retry = Retry(
        total=5,
        status_forcelist=(429, 500, 502, 503, 504),
        backoff_factor=1,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.headers["X-Authorization"] = connection["password"]
    return session


def list_campaigns(session, url):
    campaigns = []
    while True:
        response = session.get(f"{url}/list", params={"from": len(campaigns), "limit": PAGE}, timeout=30)
        response.raise_for_status()
        page = response.json()
        campaigns += page
        if len(page) < PAGE:
            return campaigns


def get(session, url):
    response = session.get(url, timeout=30)
    response.raise_for_status()
    return response.json()


def message_rows(token, messages):
    variants = messages if isinstance(messages, dict) else {"": messages}
    for variant, texts in variants.items():
        for text in texts:
            yield {"campaign_token": token, "variant": variant, **{name: text.get(name) for name in MESSAGES[2:]}}


def stats_rows(token, detail):
    for day in detail:
        for variant, counts in {"total": day, **day.get("versions", {})}.items():
            row = {"campaign_token": token, "date": day["date"], "variant": variant}
            row |= {name: counts.get(name) for name in COUNTERS}
            row["open_rate"] = (row["direct_open"] + row["influenced_open"]) / row["sent"] if row["sent"] else None
            yield row


def main():
    connection, folder = json.loads(os.environ["CONNECTION"]), Path(sys.argv[1])
    url = f"{connection['host']}/1.1/{connection['login']}/campaigns"
    session = new_session(connection)
    with (
        open(folder / "campaigns.csv", "w", newline="") as campaigns_file,
        open(folder / "messages.csv", "w", newline="") as messages_file,
        open(folder / "stats.csv", "w", newline="") as stats_file,
    ):
        campaigns = csv.DictWriter(campaigns_file, CAMPAIGNS, extrasaction="ignore")
        messages = csv.DictWriter(messages_file, MESSAGES)
        stats = csv.DictWriter(stats_file, STATS)
        for writer in (campaigns, messages, stats):
            writer.writeheader()
        for item in list_campaigns(session, url):
            token = item["campaign_token"]
            campaign = get(session, f"{url}/{token}")
            campaigns.writerow({**campaign, "labels": json.dumps(campaign.get("labels", []))})
            messages.writerows(message_rows(token, campaign["messages"]))
            if campaign["live"]:
                stats.writerows(stats_rows(token, get(session, f"{url}/stats/{token}")["detail"]))


if __name__ == "__main__":
    main()
