"""The trigger for AssetWatcher as data: its arguments, what it shares, and when something has happened."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from airflow.sdk import Asset, AssetWatcher
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_batch._airflow import compat
from airflow_batch._airflow.asset_state import AssetState
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.triggers._list import Snapshot
from airflow_batch.triggers.events import BatchCampaignEventTrigger, after, fired, states_of

TOKEN, OTHER = "abc", "def"
ARGUMENTS = {"campaign": TOKEN, "event": "stopped", "app": "ios", "batch_conn_id": "other", "poll_interval": 30.0}


def snapshot(live=(), stopped=(), sent=None, *, is_complete=True):
    campaigns = {token: {"live": True} for token in live} | {token: {"live": False} for token in stopped}
    return Snapshot(1, 0.0, datetime(2026, 11, 28, tzinfo=UTC), campaigns, is_complete, sent or {})


class Store:
    """Stands for the asset state store of one asset (Airflow 3.3 and later)."""

    def __init__(self, kept=None):
        self.kept = kept or {}

    async def aget(self, key):
        return self.kept.get(key)

    async def aset(self, key, value):
        self.kept[key] = json.loads(json.dumps(value))


class Stores:
    """Stands for what Airflow gives to a trigger of several assets."""

    def __init__(self, **stores):
        self._by_name, self._by_uri = stores, {}


class TestArguments:
    def test_an_event_trigger_is_the_same_after_json_and_airflows_own_serialisation(self):
        path, arguments = BatchCampaignEventTrigger(**ARGUMENTS).serialize()
        assert path == "airflow_batch.triggers.events.BatchCampaignEventTrigger"
        assert arguments == ARGUMENTS
        for copied in (
            json.loads(json.dumps(arguments)),
            BaseSerialization.deserialize(BaseSerialization.serialize(arguments)),
        ):
            assert BatchCampaignEventTrigger(**copied).serialize() == (path, arguments)

    def test_an_asset_watcher_takes_the_trigger(self):
        watcher = AssetWatcher(name="live", trigger=BatchCampaignEventTrigger())
        assert Asset("campaigns", watchers=[watcher]).watchers == [watcher]

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"event": "on"}, "event must be 'live', 'stopped' or 'first_sends', not 'on'"),
            ({"event": "first_sends"}, "'first_sends' needs a campaign"),
            ({"campaign": ""}, "campaign token is empty"),
            ({"campaign": "{{ var.value.token }}"}, "is not a campaign token"),
            ({"campaign": {"campaign_token": TOKEN}}, "must be text"),
            ({"campaign": f"dry-run-{'0' * 32}"}, "does not exist, because its creation was a dry run"),
            ({"poll_interval": 0}, "poll_interval must be a number of seconds from 1 to 86,400, not 0"),
            ({"poll_interval": "60"}, "not '60'"),
            ({"poll_interval": float("nan")}, "not nan"),
        ],
    )
    def test_a_wrong_argument_is_refused_when_the_dag_is_parsed(self, wrong, says):
        with pytest.raises(BatchConfigurationError, match=says):
            BatchCampaignEventTrigger(**wrong)

    def test_triggers_of_one_connection_and_app_share_a_poll_whatever_they_watch(self):
        key = BatchCampaignEventTrigger(**ARGUMENTS).shared_stream_key()
        for same in ({"campaign": None}, {"event": "live"}, {"poll_interval": 60.0}):
            assert BatchCampaignEventTrigger(**{**ARGUMENTS, **same}).shared_stream_key() == key
        for other in ({"app": None}, {"app": "android"}, {"batch_conn_id": "batch_default"}):
            assert BatchCampaignEventTrigger(**{**ARGUMENTS, **other}).shared_stream_key() != key

    def test_another_interval_goes_on_with_what_was_kept_and_any_other_change_begins_anew(self):
        key = BatchCampaignEventTrigger(**ARGUMENTS)._state_key()
        assert BatchCampaignEventTrigger(**{**ARGUMENTS, "poll_interval": 90.0})._state_key() == key
        others = ({"app": None}, {"campaign": None}, {"batch_conn_id": "batch_default"}, {"event": "live"})
        keys = {BatchCampaignEventTrigger(**{**ARGUMENTS, **other})._state_key() for other in others}
        assert len(keys | {key}) == 5


class TestWhatHasHappened:
    @pytest.mark.parametrize(
        ("event", "before", "seen", "expected"),
        [
            ("live", None, {TOKEN: True}, []),
            ("live", frozenset(), {TOKEN: True, OTHER: False}, [TOKEN]),
            ("live", {TOKEN}, {TOKEN: True}, []),
            ("live", {TOKEN}, {TOKEN: False, OTHER: True}, [OTHER]),
            ("stopped", None, {TOKEN: False}, []),
            ("stopped", {TOKEN, OTHER}, {TOKEN: False, OTHER: True}, [TOKEN]),
            ("stopped", {TOKEN}, {OTHER: True}, []),
            ("first_sends", frozenset(), {TOKEN: True}, [TOKEN]),
            ("first_sends", None, {TOKEN: True}, []),
        ],
    )
    def test_an_event_is_a_change_from_the_poll_before(self, event, before, seen, expected):
        assert fired(before, seen, event) == expected

    def test_a_campaign_that_a_poll_does_not_show_stays_as_it_was(self):
        assert after(frozenset({TOKEN}), {OTHER: True}, "live") == {TOKEN, OTHER}
        assert after(frozenset({TOKEN, OTHER}), {OTHER: False}, "live") == {TOKEN}
        assert after(None, {TOKEN: False}, "live") == frozenset()

    def test_a_campaign_that_has_sent_stays_one_that_has_sent(self):
        assert after(frozenset({TOKEN}), {TOKEN: False}, "first_sends") == {TOKEN}

    def test_a_trigger_of_one_campaign_sees_that_one_alone(self):
        assert states_of(snapshot([TOKEN, OTHER]), TOKEN, "live") == {TOKEN: True}
        assert states_of(snapshot([OTHER]), TOKEN, "live") is None

    def test_a_trigger_of_all_campaigns_needs_the_whole_list(self):
        assert states_of(snapshot([TOKEN], [OTHER]), None, "live") == {TOKEN: True, OTHER: False}
        assert states_of(snapshot([TOKEN], is_complete=False), None, "live") is None
        assert states_of(snapshot(), None, "live") == {}

    def test_a_live_that_is_no_boolean_is_not_taken_for_stopped(self):
        odd = Snapshot(1, 0.0, datetime(2026, 11, 28, tzinfo=UTC), {TOKEN: {"live": "no"}, OTHER: {}}, True, {})
        assert states_of(odd, TOKEN, "stopped") is None
        assert states_of(odd, None, "stopped") == {}

    def test_first_sends_come_from_the_statistics(self):
        assert states_of(snapshot([TOKEN]), TOKEN, "first_sends") is None
        assert states_of(snapshot([TOKEN], sent={TOKEN: 0}), TOKEN, "first_sends") == {TOKEN: False}
        assert states_of(snapshot([TOKEN], sent={TOKEN: 7}), TOKEN, "first_sends") == {TOKEN: True}


@pytest.mark.skipif(not compat.HAS_RETRY_POLICY, reason="below 3.3 Airflow has no asset state store")
def test_airflow_gives_a_trigger_of_several_assets_a_store_whose_parts_are_found():
    from airflow.sdk.definitions.asset import AssetUriRef
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor, AssetStateStoreAccessors

    given = AssetStateStoreAccessors([Asset("one"), AssetUriRef("batch://two"), Asset("three")])
    expected = [{"uri": "batch://two"}, {"name": "one"}, {"name": "three"}]
    assert AssetState(given, "key")._stores == [AssetStateStoreAccessor(**kind) for kind in expected]


def loaded(store, key="key"):
    state = AssetState(store, key)
    assert asyncio.run(state.load())
    return state.latest


def saved(store, campaigns):
    state = AssetState(store, "key")
    asyncio.run(state.load())
    asyncio.run(state.save(campaigns))


class TestWhatIsKept:
    def test_what_was_saved_is_loaded_by_the_trigger_that_takes_over(self):
        store = Store()
        saved(store, {TOKEN})
        assert loaded(store) == {TOKEN}
        assert loaded(store, "another key") is None

    def test_without_a_store_it_is_kept_for_as_long_as_the_trigger_runs(self):
        state = AssetState(None, "key")
        assert asyncio.run(state.load())
        assert state.latest is None
        asyncio.run(state.save({TOKEN}))
        assert asyncio.run(state.load())
        assert state.latest == {TOKEN}
        assert not state.outlives_the_trigger
        assert loaded(None) is None

    def test_a_trigger_of_two_assets_takes_the_newer_record_also_after_one_of_them_has_gone(self):
        first, second, third = Store(), Store(), Store()
        saved(Stores(a=first, b=second), {TOKEN})
        assert loaded(Stores(b=second)) == {TOKEN}
        saved(Stores(b=second, c=third), {OTHER})
        for stores in (Stores(a=first, c=third), Stores(c=third), Stores(a=first, b=second)):
            assert loaded(stores) == {OTHER}
