"""What the events of a task with outlets say, with the accessors that Airflow gives to a task."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors
from samples import MORNING_NEWS, SUMMER_SALE
from task import Store, context_of

from airflow_batch._airflow.outlets import campaign_uri
from airflow_batch.exceptions import BatchSyncError
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sandbox import Fault

ASSET, ALIAS = Asset("switched"), AssetAlias("changed")
OUTLETS = {"task_id": "task", "outlets": [ASSET, ALIAS]}
KEYS = ["campaign_token", "app", "name", "live", "changed", "action"]

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def token(batch):
    return batch.add_campaign(SUMMER_SALE)


def events(task, **context):
    """Execute a task. Return the extra of its asset, and URI and extra of each event of its alias."""
    accessors = OutletEventAccessors()
    task.execute({**context_of(task, **context), "outlet_events": accessors})
    added = [(event.dest_asset_key.uri, event.extra) for event in accessors[ALIAS].asset_alias_events]
    json.dumps([accessors[ASSET].extra, added], allow_nan=False)
    return accessors[ASSET].extra, added


def test_a_toggle_says_which_campaign_it_has_switched(batch, token):
    extra, added = events(BatchSetCampaignLiveOperator(campaign=token, live=True, app="ios", **OUTLETS))
    assert extra == {
        "campaign_token": token,
        "app": "ios",
        "name": "Summer sale",
        "live": True,
        "changed": True,
        "action": "set_live",
    }
    assert added == [(f"batch://batch_default/ios/{token}", extra)]


def test_a_toggle_that_sends_nothing_has_an_event_of_its_asset_alone_which_says_so(batch, token):
    extra, added = events(BatchSetCampaignLiveOperator(campaign=token, live=False, **OUTLETS))
    assert (extra["changed"], extra["live"], added) == (False, False, [])


def test_a_dry_run_has_an_event_of_its_asset_alone_which_says_so(batch, token):
    extra, added = events(BatchSetCampaignLiveOperator(campaign=token, live=True, dry_run=True, **OUTLETS))
    assert (extra["action"], extra["changed"], added) == ("dry_run", False, [])


def test_update_creation_and_deletion_have_events_of_their_own_action(batch, token):
    update = BatchUpdateCampaignOperator(campaign=token, payload={"name": "Winter sale"}, **OUTLETS)
    created, made = events(BatchCreateCampaignOperator(payload=SUMMER_SALE, **OUTLETS))
    for task in (update, BatchDeleteCampaignOperator(campaign=token, **OUTLETS)):
        extra, added = events(task)
        assert (extra["action"], list(extra)) == ("update" if task is update else "delete", KEYS)
        assert added == [(f"batch://batch_default/{token}", extra)]
    assert created["action"] == "create"
    assert made == [(f"batch://batch_default/{created['campaign_token']}", created)]


def test_a_task_that_only_reads_leaves_its_event_as_it_is(batch, token):
    assert events(BatchGetCampaignStatsOperator(campaign=token, **OUTLETS)) == ({}, [])


def test_the_event_of_a_sync_lists_the_campaigns_that_were_changed(batch):
    on, off = (batch.add_campaign({**MORNING_NEWS, "live": live}) for live in (True, False))
    desired = [{"campaign": on, "live": True}, {"campaign": off, "live": True}]
    extra, added = events(BatchSyncCampaignsOperator(campaigns=desired, **OUTLETS))
    (row,) = extra.pop("campaigns")
    assert extra == {"action": "sync", "changed": True, "changed_campaigns": 1}
    assert (list(row), row["campaign_token"], row["live"]) == (KEYS, off, True)
    assert added == [(f"batch://batch_default/{off}", row)]


def test_the_event_of_a_sync_that_changes_nothing_says_so(batch):
    on = batch.add_campaign({**MORNING_NEWS, "live": True})
    nothing = {"changed": False, "changed_campaigns": 0, "campaigns": []}
    desired = [{"campaign": on, "live": True}]
    assert events(BatchSyncCampaignsOperator(campaigns=desired, **OUTLETS)) == ({"action": "sync", **nothing}, [])
    desired = [{"campaign": on, "live": False}]
    dry = BatchSyncCampaignsOperator(campaigns=desired, dry_run=True, **OUTLETS)
    assert events(dry) == ({"action": "dry_run", **nothing}, [])


def test_a_second_attempt_of_a_sync_has_events_of_what_either_attempt_has_sent_and_of_no_other_campaign(batch):
    on, first, second = (batch.add_campaign({**MORNING_NEWS, "live": live}) for live in (True, False, False))
    batch.inject(Fault("answer", "update", status=400, token=second))
    store, desired = Store(), [{"campaign": token, "live": True} for token in (on, first, second)]
    task = BatchSyncCampaignsOperator(campaigns=desired, **OUTLETS)
    with pytest.raises(BatchSyncError):
        events(task, store=store)
    extra, added = events(task, store=store, try_number=2)
    assert [(row["campaign_token"], row["changed"]) for row in extra["campaigns"]] == [(first, None), (second, True)]
    assert (extra["changed_campaigns"], len(added)) == (2, 2)


def test_a_large_sync_lists_a_part_in_the_event_of_the_asset_and_all_in_those_of_the_alias(batch):
    tokens = [batch.add_campaign({**MORNING_NEWS, "live": False}) for _ in range(205)]
    desired = [{"campaign": token, "live": True} for token in tokens]
    extra, added = events(BatchSyncCampaignsOperator(campaigns=desired, **OUTLETS))
    assert (extra["changed_campaigns"], len(extra["campaigns"]), len(added)) == (205, 200, 205)


def test_what_the_author_has_put_into_extra_stays(batch, token):
    task = BatchSetCampaignLiveOperator(campaign=token, live=True, **OUTLETS)
    accessors = OutletEventAccessors()
    accessors[ASSET].extra["ticket"] = "A-1"
    task.execute({**context_of(task), "outlet_events": accessors})
    assert accessors[ASSET].extra["ticket"] == "A-1"
    assert accessors[ASSET].extra["changed"] is True


def test_a_change_whose_answer_was_lost_counts_as_a_change(batch, token):
    batch.inject(Fault("reset_after", "update"))
    extra, added = events(BatchSetCampaignLiveOperator(campaign=token, live=True, **OUTLETS))
    assert extra["changed"] is not False
    assert len(added) == 1


def test_a_failure_to_fill_in_the_event_does_not_fail_the_task(batch, token, capsys):
    task = BatchSetCampaignLiveOperator(campaign=token, live=True, **OUTLETS)
    result = task.execute(context_of(task))  # without outlet_events
    assert result["changed"] is True
    assert batch.campaign(token)["live"] is True
    assert "The asset events of this task say less than they should: KeyError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        (("batch_default", "ios", "abc"), "batch://batch_default/ios/abc"),
        (("batch_default", None, "abc"), "batch://batch_default/abc"),
        (("my conn", "a/b ü", "abc"), "batch://my%20conn/a%2Fb%20%C3%BC/abc"),
    ],
)
def test_a_campaign_has_a_uri_that_airflow_keeps_as_it_is(given, uri):
    assert campaign_uri(*given) == Asset(campaign_uri(*given)).uri == uri
