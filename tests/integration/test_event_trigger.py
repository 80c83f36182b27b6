"""Event triggers without a triggerer: real HTTP to the sandbox, and a clock that only their sleeps set forward."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from airflow.sdk import Connection
from canary import APP_KEYS, REST_KEY, assert_free
from samples import MORNING_NEWS, SUMMER_SALE

from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.triggers import _list
from airflow_batch.triggers.events import BatchCampaignEventTrigger

pytestmark = pytest.mark.usefixtures("no_sync_connection_in_the_loop")

START = datetime(2026, 11, 28, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Store:
    """Stands for the asset state store of one asset (Airflow 3.3 and later)."""

    def __init__(self):
        self.kept = {}
        self.is_broken = self.is_read_only = False

    async def aget(self, key):
        if self.is_broken:
            raise RuntimeError("no store")
        return self.kept.get(key)

    async def aset(self, key, value):
        if self.is_broken or self.is_read_only:
            raise RuntimeError("no store")
        self.kept[key] = json.loads(json.dumps(value))


class Triggerer:
    """Runs triggers side by side until a moment of its clock."""

    def __init__(self):
        self.seconds = 0.0
        self.until = 0.0
        self.done = None
        self.steps = []

    def now(self):
        return START + timedelta(seconds=self.seconds)

    async def sleep(self, seconds):
        self.seconds += seconds
        while self.steps and self.steps[0][0] <= self.seconds:
            self.steps.pop(0)[1]()
        if self.seconds >= self.until:
            self.done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    def run(self, triggers, seconds, *steps):
        """Run for so many seconds; ``steps`` are pairs of seconds from now and what then happens.

        :return: The payloads, in their order.
        """
        return asyncio.run(self.play(triggers, seconds, *steps))

    async def play(self, triggers, seconds, *steps):
        events = []
        self.until = self.seconds + seconds
        self.steps = [(self.seconds + at, step) for at, step in steps]

        async def consume(trigger):
            async for event in trigger.run():
                events.append(handed_over(event))

        self.done = asyncio.Event()
        tasks = [asyncio.create_task(consume(trigger)) for trigger in triggers]
        over = asyncio.create_task(self.done.wait())
        await asyncio.wait([over, *tasks], return_when="FIRST_COMPLETED")
        assert not any(task.done() for task in tasks), "a trigger ended"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return events


def handed_over(event):
    """Return the payload as Airflow's triggerer encodes it for its supervisor."""
    return json.loads(json.dumps(event.model_dump()["payload"]))


@pytest.fixture
def triggerer(monkeypatch):
    triggerer = Triggerer()
    monkeypatch.setattr(_list, "JOIN_SECONDS", 0.0)
    monkeypatch.setattr(_list, "_now", lambda: triggerer.seconds)
    monkeypatch.setattr(_list, "_sleep", triggerer.sleep)
    return triggerer


@pytest.fixture
def batch(triggerer, connect):
    """The sandbox, by the clock of the triggerer."""
    with BatchSandbox(clock=triggerer.now) as running:
        connect(running.connection())
        yield running


def switched(batch, token, live, campaign=MORNING_NEWS):
    """Return what switches a campaign, as somebody does with another tool."""
    hook = BatchHook.from_connection(_connection(batch))
    return lambda: hook.update_campaign(token, {**campaign, "live": live})


def _connection(batch):
    return Connection(conn_id="marketing", **batch.connection())


def reads(batch):
    return [record for record in batch.requests if record.operation in ("list", "stats")]


def busiest_minute(records):
    times = [record.time for record in records]
    return max(sum(at <= other < at + MINUTE for other in times) for at in times)


def errors(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "ERROR" and r.name.startswith("airflow_batch")]


def stored(trigger, store):
    trigger.asset_state_store = store
    return trigger


class TestEvents:
    def test_a_campaign_that_goes_live_and_is_stopped_fires_one_event_each(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        triggers = [BatchCampaignEventTrigger(campaign=token, event=event) for event in ("live", "stopped")]
        events = triggerer.run(triggers, 600, (100, switched(batch, token, True)), (300, switched(batch, token, False)))
        assert [(event["event"], event["live"]) for event in events] == [("live", True), ("stopped", False)]
        seen_at = datetime.fromisoformat(events[0].pop("seen_at"))
        assert seen_at.utcoffset() == timedelta(0)
        assert events[0] == {
            "campaign_token": token,
            "app": None,
            "name": "Morning news",
            "event": "live",
            "live": True,
        }

    def test_the_first_poll_fires_nothing_for_what_is_live_already(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": True})
        assert triggerer.run([BatchCampaignEventTrigger(), BatchCampaignEventTrigger(campaign=token)], 300) == []

    def test_on_and_off_between_two_polls_fires_nothing(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        trigger = BatchCampaignEventTrigger(campaign=token, poll_interval=120)
        steps = (10, switched(batch, token, True)), (20, switched(batch, token, False))
        assert triggerer.run([trigger], 600, *steps) == []

    def test_a_trigger_without_a_campaign_sees_those_that_are_created_later(self, batch, triggerer):
        batch.add_campaign({**MORNING_NEWS, "live": True})
        created = []
        step = (100, lambda: created.append(batch.add_campaign({**SUMMER_SALE, "live": True})))
        events = triggerer.run([BatchCampaignEventTrigger()], 600, step)
        assert [(event["campaign_token"], event["name"]) for event in events] == [(created[0], "Summer sale")]

    def test_first_sends_fire_once_with_their_number(self, batch, triggerer):
        push = {**SUMMER_SALE, "push_time": "2026-11-28T09:05:00", "live": True}
        token = batch.add_campaign(push)
        events = triggerer.run([BatchCampaignEventTrigger(campaign=token, event="first_sends")], 900)
        (row,) = BatchHook.from_connection(_connection(batch)).get_campaign_stats(token)["detail"]
        assert row["sent"] > 0
        assert [(event["event"], event["live"], event["sent"]) for event in events] == [
            ("first_sends", True, row["sent"])
        ]
        *asked, _by_the_test = (record.time for record in batch.requests if record.operation == "stats")
        assert max(asked) < START + timedelta(minutes=7)

    def test_a_campaign_that_has_sent_already_fires_no_first_sends(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": True})
        batch.set_stats(token, [{"date": "2026-11-27", "sent": 3}])
        step = (100, lambda: batch.set_stats(token, [{"date": "2026-11-28", "sent": 30}]))
        assert triggerer.run([BatchCampaignEventTrigger(campaign=token, event="first_sends")], 600, step) == []

    def test_a_campaign_that_is_not_live_costs_one_request_for_its_statistics(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        triggerer.run([BatchCampaignEventTrigger(campaign=token, event="first_sends")], 600)
        assert [record.operation for record in reads(batch)].count("stats") == 1


class TestRequests:
    @pytest.mark.parametrize(("campaigns", "requests"), [(100, 10), (250, 20)])
    def test_a_hundred_watchers_share_one_poll(self, batch, triggerer, campaigns, requests):
        tokens = [batch.add_campaign({**MORNING_NEWS, "live": False}) for _ in range(campaigns)]
        triggers = [BatchCampaignEventTrigger(campaign=token) for token in tokens[:100]]
        triggers += [BatchCampaignEventTrigger(campaign=token, event="stopped") for token in tokens[-100:]]
        triggerer.run(triggers, 600)
        # Oldest first: the first 100 are on the last page of the list.
        assert requests <= len(reads(batch)) <= 3 * requests
        assert busiest_minute(reads(batch)) <= 12

    def test_the_list_is_read_no_further_than_to_the_last_watched_campaign(self, batch, triggerer):
        old = batch.add_campaign({**MORNING_NEWS, "live": False})
        new = [batch.add_campaign({**MORNING_NEWS, "live": False}) for _ in range(250)][-1]
        triggerer.run([BatchCampaignEventTrigger(campaign=new)], 100)
        assert {record.query for record in reads(batch)} == {"from=0&limit=100"}
        triggerer.run([BatchCampaignEventTrigger(campaign=old)], 100)
        assert any("from=200" in record.query for record in reads(batch))

    def test_each_request_waits_for_its_turn_also_where_campaigns_are_created_between_two_pages(self, batch, triggerer):
        for _ in range(215):
            batch.add_campaign({**MORNING_NEWS, "live": False})
        steps = ((at, lambda: batch.add_campaign({**MORNING_NEWS, "live": False})) for at in range(3, 300, 6))
        triggerer.run([BatchCampaignEventTrigger()], 300, *steps)
        times = [record.time for record in reads(batch)]
        assert min(later - earlier for earlier, later in pairwise(times)) >= timedelta(seconds=6)
        assert any("from=200" in record.query for record in reads(batch))

    def test_the_interval_grows_with_a_thousand_campaigns(self, batch, triggerer):
        for _ in range(1000):
            batch.add_campaign({**MORNING_NEWS, "live": False})
        triggerer.run([BatchCampaignEventTrigger(poll_interval=1)], 900)
        assert busiest_minute(reads(batch)) <= 12
        assert len(reads(batch)) > 100  # and not less often than it may

    def test_the_statistics_of_a_hundred_campaigns_stay_within_the_same_limit(self, batch, triggerer):
        tokens = [batch.add_campaign({**MORNING_NEWS, "live": True}) for _ in range(100)]
        triggers = [BatchCampaignEventTrigger(campaign=token, event="first_sends") for token in tokens]
        triggerer.run([*triggers, BatchCampaignEventTrigger()], 1500)
        assert busiest_minute(reads(batch)) <= 12
        asked = {record.campaign_token for record in reads(batch) if record.operation == "stats"}
        assert asked == set(tokens)
        lists = [record.time for record in reads(batch) if record.operation == "list"]
        assert max(later - earlier for earlier, later in pairwise(lists)) < 2 * MINUTE

    def test_the_shortest_interval_of_the_triggers_holds(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        slow, fast = (BatchCampaignEventTrigger(campaign=token, poll_interval=seconds) for seconds in (600, 30))
        triggerer.run([slow, fast], 605)
        assert 15 <= len(reads(batch)) <= 21

    def test_only_reads_are_sent(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": True})
        triggerer.run([BatchCampaignEventTrigger(campaign=token, event=e) for e in ("live", "first_sends")], 300)
        assert {record.method for record in batch.requests} == {"GET"}


class TestFailures:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("answer", "list", status=500, times=5),
            Fault("answer", "list", status=429, times=5),
            Fault("answer", "list", status=503, times=5),
            Fault("html", "list", times=5),
            Fault("reset_before", "list", times=5),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status}",
    )
    def test_failed_polls_end_nothing_and_are_no_faster_than_others(self, batch, triggerer, fault):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        trigger = BatchCampaignEventTrigger(campaign=token, poll_interval=30)
        events = triggerer.run(
            [trigger],
            3000,
            (20, lambda: batch.inject(fault)),
            (900, switched(batch, token, True)),
        )
        assert [event["event"] for event in events] == ["live"]
        times = [record.time for record in reads(batch)]
        assert min(later - earlier for earlier, later in pairwise(times)) >= timedelta(seconds=29)

    def test_no_request_comes_before_retry_after(self, batch, triggerer):
        batch.add_campaign(MORNING_NEWS)
        batch.inject(Fault("answer", "list", status=429, headers={"Retry-After": "1000"}))
        triggerer.run([BatchCampaignEventTrigger()], 2000)
        first, second, *_ = (record.time for record in reads(batch))
        assert second - first >= timedelta(seconds=1000)

    def test_a_wrong_key_is_one_error_in_the_log_and_the_right_one_is_used_when_it_is_there(
        self, batch, triggerer, connect, caplog
    ):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        right = batch.connection()
        connect({**right, "password": "sandbox-wrong"})
        with caplog.at_level(logging.DEBUG):
            events = triggerer.run(
                [BatchCampaignEventTrigger(campaign=token)],
                6000,
                (3000, lambda: connect(right)),
                (4500, switched(batch, token, True)),
            )
        assert [event["event"] for event in events] == ["live"]
        assert [record.status for record in reads(batch)].count(401) > 5
        assert len(errors(caplog)) == 1
        assert "sandbox-wrong" not in caplog.text

    def test_a_missing_connection_is_one_error_in_the_log(self, triggerer, monkeypatch, caplog):
        monkeypatch.delenv("AIRFLOW_CONN_BATCH_DEFAULT", raising=False)
        with caplog.at_level(logging.DEBUG):
            assert triggerer.run([BatchCampaignEventTrigger()], 6000) == []
        (error,) = errors(caplog)
        assert "Connection 'batch_default' cannot be read" in error

    def test_statistics_that_cannot_be_read_do_not_delay_the_list(self, batch, triggerer, caplog):
        token = batch.add_campaign({**MORNING_NEWS, "live": True})
        triggers = [BatchCampaignEventTrigger(campaign=c, event="first_sends") for c in (token, "gone")]
        triggerer.run(triggers, 605)
        assert [record.operation for record in reads(batch)].count("list") >= 9
        assert caplog.text.count("the statistics of campaign 'gone' cannot be read") == 1

    def test_no_key_is_in_the_arguments_the_events_and_the_log(self, triggerer, connect, caplog):
        with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}, clock=triggerer.now) as batch, caplog.at_level(0):
            connect(batch.connection("api_keys"))
            token = batch.add_campaign({**MORNING_NEWS, "live": False}, app="ios")
            trigger = BatchCampaignEventTrigger(campaign=token, app="ios")
            batch.inject(Fault("echo", "list"))
            arguments = {**batch.connection("api_keys"), "conn_id": "marketing"}
            arguments["extra"] = json.dumps(arguments["extra"])
            marketing = BatchHook.from_connection(Connection(**arguments), "ios")
            step = (300, lambda: marketing.update_campaign(token, {**MORNING_NEWS, "live": True}))
            events = triggerer.run([trigger], 600, step)
        assert len(events) == 1
        assert_free(json.dumps([events, trigger.serialize(), repr(trigger)]), "the trigger")
        assert_free(caplog.text, "the log")


class TestRestart:
    def test_no_event_fires_twice_and_what_changed_meanwhile_fires(self, batch, triggerer):
        tokens = [batch.add_campaign({**MORNING_NEWS, "live": False}) for _ in range(2)]
        store = Store()
        first = stored(BatchCampaignEventTrigger(), store)
        events = triggerer.run([first], 300, (100, switched(batch, tokens[0], True)))
        assert [event["campaign_token"] for event in events] == [tokens[0]]
        switched(batch, tokens[1], True)()
        events = triggerer.run([stored(BatchCampaignEventTrigger(), store)], 300)
        assert [event["campaign_token"] for event in events] == [tokens[1]]
        assert triggerer.run([stored(BatchCampaignEventTrigger(), store)], 300) == []

    def test_without_a_store_a_restart_repeats_nothing_and_misses_what_changed_meanwhile(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        assert triggerer.run([BatchCampaignEventTrigger()], 100) == []
        switched(batch, token, True)()
        assert triggerer.run([BatchCampaignEventTrigger()], 300) == []

    def test_an_event_is_recorded_when_it_was_handed_over_and_not_before(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        store = Store()
        trigger = stored(BatchCampaignEventTrigger(campaign=token), store)
        triggerer.run([trigger], 100)
        switched(batch, token, True)()
        recorded = []

        async def fire():
            triggerer.done = asyncio.Event()
            events = trigger.run()
            event = await anext(events)
            following = asyncio.create_task(anext(events))
            for step in (lambda: None, lambda: handed_over(event)):
                step()
                await asyncio.sleep(0.1)
                recorded.extend(record["campaigns"] for record in store.kept.values())
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

        triggerer.until = 1e9
        asyncio.run(fire())
        assert recorded == [[], [token]]

    def test_an_event_that_was_not_handed_over_fires_again_after_a_restart(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        store = Store()
        trigger = stored(BatchCampaignEventTrigger(campaign=token), store)
        triggerer.run([trigger], 100)
        switched(batch, token, True)()
        triggerer.until = 1e9
        asyncio.run(anext(trigger.run()))
        assert len(triggerer.run([stored(BatchCampaignEventTrigger(campaign=token), store)], 300)) == 1

    def test_nothing_fires_while_the_store_cannot_be_read(self, batch, triggerer, caplog):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        store = Store()

        def broken(value):
            return lambda: setattr(store, "is_broken", value)

        steps = (70, broken(True)), (100, switched(batch, token, True)), (400, broken(False))
        events = triggerer.run([stored(BatchCampaignEventTrigger(campaign=token), store)], 900, *steps)
        assert len(events) == 1
        assert datetime.fromisoformat(events[0]["seen_at"]) > START + timedelta(seconds=400)
        assert caplog.text.count("asset state store fails") == 1

    def test_a_record_that_cannot_be_written_is_written_later(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        store = Store()
        trigger = stored(BatchCampaignEventTrigger(campaign=token), store)
        triggerer.run([trigger], 100)
        store.is_read_only = True
        steps = (50, switched(batch, token, True)), (200, lambda: setattr(store, "is_read_only", False))
        assert len(triggerer.run([stored(BatchCampaignEventTrigger(campaign=token), store)], 500, *steps)) == 1
        assert triggerer.run([stored(BatchCampaignEventTrigger(campaign=token), store)], 300) == []

    def test_what_another_triggerer_has_recorded_does_not_fire_again(self, batch, triggerer):
        token = batch.add_campaign({**MORNING_NEWS, "live": False})
        store = Store()
        both = [stored(BatchCampaignEventTrigger(campaign=token), store) for _ in range(2)]
        assert len(triggerer.run(both, 300, (100, switched(batch, token, True)))) == 1

    @pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another trigger"])
    @pytest.mark.parametrize("live", [True, False])
    def test_a_trigger_that_returns_to_an_earlier_triggerer_sees_no_older_poll_of_it(
        self, batch, triggerer, live, others
    ):
        token = batch.add_campaign({**MORNING_NEWS, "live": not live})
        stores = {"live": Store(), "stopped": Store()}
        first, second = {}, {}
        """What the triggers of a triggerer share."""

        async def everything():
            fired = []

            async def run_in(lists):
                _list._LISTS[asyncio.get_running_loop()] = lists
                triggers = [
                    stored(BatchCampaignEventTrigger(campaign=token, event=event, poll_interval=600), store)
                    for event, store in stores.items()
                ]
                fired.append([(event["event"], event["live"]) for event in await triggerer.play(triggers, 30)])

            await run_in(first)
            with ExitStack() as beside:
                for _ in range(others):
                    stays = BatchCampaignEventTrigger(poll_interval=600)
                    beside.enter_context(first["batch_default", None].joined(stays))
                switched(batch, token, live)()
                for lists in (second, first, second):
                    await run_in(lists)
            return fired

        change = ("live" if live else "stopped", live)
        assert asyncio.run(everything()) == [[], [change], [], []]
        assert len(reads(batch)) == 4


class TestSharedStream:
    def test_a_trigger_that_starts_anew_polls_no_sooner(self, batch, triggerer):
        batch.add_campaign(MORNING_NEWS)

        async def started_again():
            for _ in range(20):
                events = BatchCampaignEventTrigger().run()
                task = asyncio.create_task(anext(events))
                await asyncio.sleep(0.02)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        triggerer.until = 1e9
        triggerer.done = asyncio.Event()
        asyncio.run(started_again())
        assert busiest_minute(reads(batch)) <= 12
