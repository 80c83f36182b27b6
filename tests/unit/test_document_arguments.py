"""The tables of arguments in the documents name every argument, with its default."""

from __future__ import annotations

import inspect
import re

import pytest
from documents import CHECKOUT

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators import approval, campaigns, export, sync
from airflow_batch.sensors import campaigns as sensors
from airflow_batch.triggers.events import BatchCampaignEventTrigger

COMMON = "operators/common"
PAGES = {
    "operators/approve-campaign": approval.BatchCampaignApprovalOperator,
    "operators/set-campaign-live": campaigns.BatchSetCampaignLiveOperator,
    "operators/update-campaign": campaigns.BatchUpdateCampaignOperator,
    "operators/create-campaign": campaigns.BatchCreateCampaignOperator,
    "operators/delete-campaign": campaigns.BatchDeleteCampaignOperator,
    "operators/get-campaign-stats": campaigns.BatchGetCampaignStatsOperator,
    "operators/sync-campaigns": sync.BatchSyncCampaignsOperator,
    "operators/export-campaigns": export.BatchExportCampaignsOperator,
    "sensors/campaign-live": sensors.BatchCampaignLiveSensor,
    "sensors/campaign-stats": sensors.BatchCampaignStatsSensor,
    "notifiers/set-campaign-live": SetCampaignLiveNotifier,
    "assets": BatchCampaignEventTrigger,
    "hook": BatchHook,
}
BY_CONFIGURATION = {"deferrable"}
EITHER = {"campaigns", "calendar"}


def arguments(cls):
    """Return the arguments of a class of the package and of its bases, with their defaults."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("airflow_batch") and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    found[name] = parameter.default
    return found


def table(page):
    """Return the rows of a page's first table after its heading: argument and default."""
    text = (CHECKOUT / "docs" / f"{page}.md").read_text()
    part = re.search(
        r"^## (?:Common arguments|Arguments|When a campaign goes live)\n(.*?)(?=^## |\Z)", text, re.M | re.S
    )[1]
    rows = [re.split(r" \| ", row.strip("| ")) for row in re.findall(r"^\| `.*", part, re.M)]
    return {row[0].strip("`"): row[2] for row in rows}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_of_a_class_lists_every_argument_with_its_default(page):
    shown = {**(table(COMMON) if page.startswith("operators/") else {}), **table(page)}
    taken = arguments(PAGES[page])
    assert set(shown) == set(taken)
    for name, default in taken.items():
        if name in BY_CONFIGURATION | EITHER:
            continue
        text = "required" if default is inspect.Parameter.empty else repr(default).replace("'", '"')
        assert shown[name].strip("`").startswith(text), (name, shown[name], text)
