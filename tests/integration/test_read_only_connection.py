"""A connection whose extra has ``dry_run: true``: operators, sensors, notifier and hook, against the sandbox."""

from __future__ import annotations

import logging
from itertools import product
from urllib.parse import urlsplit

import pytest
import requests
from samples import MORNING_NEWS, SUMMER_SALE
from structlog.testing import capture_logs
from task import Store, attempt, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_batch.exceptions import (
    BatchConfigurationError,
    BatchConnectionError,
    BatchNotCreatedError,
    BatchReadOnlyError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.campaigns import (
    BatchCreateCampaignOperator,
    BatchDeleteCampaignOperator,
    BatchGetCampaignStatsOperator,
    BatchSetCampaignLiveOperator,
    BatchUpdateCampaignOperator,
)
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sandbox import BatchSandbox, Fault
from airflow_batch.sensors.campaigns import BatchCampaignLiveSensor, BatchCampaignStatsSensor

REASON = "connection 'batch_default' has dry_run"
PAYLOAD = {**SUMMER_SALE, "live": True}
NOT_CREATED = f"dry-run-{'0' * 32}"
WRITES = {
    "create": lambda hook, token: hook.create_campaign(PAYLOAD),
    "update": lambda hook, token: hook.update_campaign(token, {"live": True}),
    "delete": lambda hook, token: hook.delete_campaign(token),
}


@pytest.fixture
def read_only(batch, connect):
    """The sandbox, through a connection that never writes."""
    connect({**batch.connection(), "extra": {"dry_run": True}})
    return batch


@pytest.fixture
def token(read_only):
    return read_only.add_campaign(MORNING_NEWS)


@pytest.fixture
def running(read_only):
    return read_only.add_campaign({**MORNING_NEWS, "live": True})


def writes(sandbox):
    return [record.operation for record in sandbox.requests if record.operation in WRITES]


def toggle(campaign, live=True, **arguments):
    return BatchSetCampaignLiveOperator(task_id="toggle", campaign=campaign, live=live, **arguments)


def create(payload=PAYLOAD, **arguments):
    return BatchCreateCampaignOperator(task_id="create", payload=payload, **arguments)


def sync(campaigns, **arguments):
    return BatchSyncCampaignsOperator(task_id="sync", campaigns=campaigns, **arguments)


def logged(task, **context):
    """Run an attempt; return its result, and its log as (level, text)."""
    with capture_logs() as lines:
        result = task.execute(context_of(task, **context))
    return result, [(line["log_level"], line["event"] % line.get("positional_args", ())) for line in lines]


class TestHook:
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    def test_a_method_that_writes_raises_an_error_of_its_own_and_sends_nothing(self, read_only, token, write):
        with pytest.raises(BatchReadOnlyError) as caught:
            write(BatchHook(), token)
        assert str(caught.value) == (
            f"Nothing was sent, because {REASON}. To write, set dry_run to false in the connection's extra, or remove "
            "it."
        )
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.__context__ is None
        assert read_only.requests == ()

    def test_a_request_of_ones_own_through_the_session_is_refused_as_well(self, read_only, token):
        session, settings = BatchHook().get_conn(), BatchHook().settings
        path = f"1.1/{settings.api_key(None)}/campaigns"
        port = urlsplit(settings.base_url).port
        headers = {"X-Authorization": settings.rest_key}
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}", f"user@127.0.0.1:{port}", f"127.0.0.1:0{port}")
        for method, host in product(("POST", "PUT", "PATCH", "DELETE"), hosts):
            with pytest.raises(BatchReadOnlyError):
                session.request(method, f"http://{host}/{path}/delete/{token}", headers=headers)
        session.mount("http://", requests.adapters.HTTPAdapter())
        with pytest.raises(BatchReadOnlyError):
            session.post(f"{settings.base_url}/{path}/delete/{token}", headers=headers)
        assert read_only.requests == ()
        for host in hosts:
            assert session.get(f"http://{host}/{path}/{token}", headers=headers).status_code == requests.codes.ok

    def test_reads_are_sent(self, read_only, token):
        hook = BatchHook()
        assert hook.get_campaign(token)["campaign_token"] == token
        assert [campaign["campaign_token"] for campaign in hook.list_campaigns()] == [token]
        assert hook.get_campaign_stats(token)["detail"] == []

    @pytest.mark.parametrize("extra", [{}, {"dry_run": False}])
    def test_a_connection_without_dry_run_writes(self, batch, connect, extra):
        connect({**batch.connection(), "extra": extra})
        assert BatchHook().create_campaign(PAYLOAD) in batch.tokens()
        assert BatchHook().read_only_reason == ""

    def test_the_test_button_says_first_that_the_connection_never_writes(self, read_only, token):
        accepted, text = BatchHook().test_connection()
        assert accepted
        assert text.startswith("This connection never writes (dry_run). Connected to ")
        assert writes(read_only) == []

    def test_the_test_button_shows_a_wrong_dry_run(self, batch, connect):
        connect({**batch.connection(), "extra": {"dry_run": "yes"}})
        accepted, text = BatchHook("batch_default").test_connection()
        assert (accepted, text) == (
            False,
            "This connection: extra dry_run must be true or false, not 'yes'. Nothing is sent until it is.",
        )


class TestOperators:
    def test_a_toggle_is_a_dry_run_and_says_that_the_connection_decides(self, read_only, token):
        result, log = logged(toggle(token))
        assert (result["action"], result["changed"], result["live"]) == ("dry_run", False, False)
        assert result["differences"] == [{"parameter": "live", "now": False, "wanted": True}]
        assert ("info", f"Dry run, because {REASON}.") in log
        assert writes(read_only) == []

    def test_a_stop_is_not_sent_and_that_is_a_warning(self, read_only, running):
        result, log = logged(toggle(running, live=False))
        assert (result["action"], result["live"]) == ("dry_run", True)
        title = f"Campaign {running!r} ('Morning news')"
        assert ("warning", f"{title} is NOT stopped, because {REASON}.") in log
        assert writes(read_only) == []

    def test_a_stop_that_is_not_needed_is_no_warning(self, read_only, token):
        _, log = logged(toggle(token, live=False))
        assert [text for level, text in log if level == "warning" and "sandbox" not in text] == []

    @pytest.mark.parametrize("campaign", ["token", "result"])
    def test_an_update_and_a_deletion_take_the_result_of_a_dry_run(self, read_only, token, campaign):
        given = token if campaign == "token" else attempt(toggle(token))
        update = BatchUpdateCampaignOperator(task_id="update", campaign=given, payload={"labels": ["WINTER"]})
        delete = BatchDeleteCampaignOperator(task_id="delete", campaign=given)
        assert [attempt(task)["action"] for task in (update, delete)] == ["dry_run", "dry_run"]
        assert (writes(read_only), read_only.tokens()) == ([], (token,))

    def test_a_creation_returns_a_token_that_a_retry_returns_as_well(self, read_only):
        first, again = attempt(create()), attempt(create(), try_number=2)
        assert first["campaign_token"].startswith("dry-run-")
        assert (first["action"], first["changed"]) == ("dry_run", False)
        assert first["campaign_token"] == again["campaign_token"]
        assert first["campaign_token"] != attempt(create({**PAYLOAD, "name": "Winter sale"}))["campaign_token"]
        assert first["campaign_token"] != attempt(create(app="ios"))["campaign_token"]
        assert read_only.requests == ()

    def test_a_later_attempt_of_a_dry_run_knows_what_the_first_has_sent_where_the_connection_writes_again(
        self, batch, token, connect
    ):
        """The record of a change that was sent before stays, and the dry run between leaves it as it was."""
        store = Store()
        connect(batch.connection())
        batch.inject(Fault("reset_after", "create"))
        first = attempt(create({**PAYLOAD, "live": False}), store=store)
        connect({**batch.connection(), "extra": {"dry_run": True}})
        assert attempt(create({**PAYLOAD, "live": False}), store=store, try_number=2)["action"] == "dry_run"
        connect(batch.connection())
        again = attempt(create({**PAYLOAD, "live": False}), store=store, try_number=3)
        assert again["campaign_token"] == first["campaign_token"]

    def test_a_connection_that_cannot_be_read_at_first_is_read_again_and_then_decides(
        self, batch, token, clock, connect, monkeypatch
    ):
        monkeypatch.delenv("AIRFLOW_CONN_BATCH_DEFAULT")
        clock.while_asleep = lambda _: connect({**batch.connection(), "extra": {"dry_run": True}})
        result, log = logged(toggle(token))
        assert (result["action"], clock.slept, writes(batch)) == ("dry_run", [5.0], [])
        assert any("does not exist, or Airflow could not read it" in text for _, text in log)

    def test_a_connection_that_cannot_be_read_is_a_failure_to_be_retried(self, clock):
        for task in (toggle("token"), create(), BatchDeleteCampaignOperator(task_id="delete", campaign="token")):
            with pytest.raises(BatchConnectionError):
                attempt(task)

    @pytest.mark.parametrize("value", ["yes", 1, None])
    def test_a_wrong_dry_run_fails_the_task_for_good_and_nothing_is_sent_not_even_a_stop(self, batch, connect, value):
        running = batch.add_campaign({**MORNING_NEWS, "live": True})
        connect({**batch.connection(), "extra": {"dry_run": value}})
        for task in (toggle(running, live=False), create(), sync([{"campaign": running, "live": False}])):
            with pytest.raises(BatchConfigurationError, match="extra dry_run must be true or false"):
                attempt(task)
        assert batch.requests == ()


class TestSync:
    def test_a_sync_is_a_dry_run_and_warns_of_the_stops_that_are_not_sent(self, read_only, token, running, caplog):
        caplog.set_level(logging.INFO, "airflow_batch")
        report = attempt(sync([{"campaign": token, "live": True}, {"campaign": running, "live": False}]))
        assert (report["would_change"], report["changed"]) == (2, 0)
        assert {result["action"] for result in report["campaigns"]} == {"dry_run"}
        assert f"Dry run, because {REASON}." in caplog.messages
        assert f"Campaigns that are NOT stopped (1), because {REASON}: {running}." in caplog.messages
        assert writes(read_only) == []

    def test_a_dry_run_whose_connection_writes_when_it_is_read_again_stays_one_and_warns_all_the_same(
        self, connect, caplog
    ):
        def key_is_corrected(record):
            if record.status == requests.codes.unauthorized:
                connect(sandbox.connection())

        with BatchSandbox(on_record=key_is_corrected) as sandbox:
            running = sandbox.add_campaign({**MORNING_NEWS, "live": True})
            connect({**sandbox.connection(), "password": "sandbox-old", "extra": {"dry_run": True}})
            report = attempt(sync([{"campaign": running, "live": False}]))
            assert (report["would_change"], writes(sandbox)) == (1, [])
        assert f"Campaigns that are NOT stopped (1), because {REASON}: {running}." in caplog.messages

    def test_campaigns_that_a_dry_run_did_not_create_are_left_out_with_a_line_in_the_log(
        self, read_only, token, caplog
    ):
        items = [{"campaign": attempt(create()), "live": True}, {"campaign": token, "live": True}]
        report = attempt(sync(items))
        assert (report["total"], report["would_change"]) == (1, 1)
        (line,) = [text for text in caplog.messages if "left out" in text]
        assert line.startswith("campaigns[0] is left out. Campaign 'dry-run-")


class TestCampaignsThatWereNotCreated:
    """Through any connection: a task after the creation may have another one."""

    TASKS = (
        toggle(NOT_CREATED),
        toggle(NOT_CREATED, live=False),
        BatchUpdateCampaignOperator(task_id="update", campaign=NOT_CREATED, payload={"live": True}),
        BatchDeleteCampaignOperator(task_id="delete", campaign=NOT_CREATED),
        BatchGetCampaignStatsOperator(task_id="stats", campaign=NOT_CREATED),
        BatchCampaignLiveSensor(task_id="sensor", campaign=NOT_CREATED),
        BatchCampaignLiveSensor(task_id="sensor", campaign=[NOT_CREATED, {"campaign_token": NOT_CREATED}]),
        BatchCampaignStatsSensor(task_id="sensor", campaign=NOT_CREATED),
    )

    @pytest.mark.parametrize("task", TASKS, ids=lambda task: task.task_id)
    def test_a_task_that_is_given_one_is_skipped_with_the_reason_and_sends_nothing(self, batch, task):
        with pytest.raises(AirflowSkipException) as caught:
            attempt(task)
        # Airflow logs it: "Skipping task." with the reason.
        assert "dry run" in caught.value.args[0]
        assert batch.requests == ()

    def test_a_task_with_the_hook_that_is_given_one_is_skipped(self, batch):
        with pytest.raises(BatchNotCreatedError, match="does not exist, because its creation was a dry run"):
            BatchHook().get_campaign(NOT_CREATED)
        assert batch.requests == ()

    def test_a_callback_that_is_given_one_has_nothing_to_switch(self, batch, caplog):
        SetCampaignLiveNotifier(campaign=NOT_CREATED)({"ti": None})
        assert "The callback has nothing to switch." in caplog.text
        assert batch.requests == ()

    @pytest.mark.parametrize("token", ["dry-run-x", f"dry-run-{'0' * 33}", f"DRY-RUN-{'0' * 32}"])
    def test_a_token_of_another_form_is_no_such_campaign(self, batch, token):
        with pytest.raises(Exception, match="404"):
            BatchHook().get_campaign(token)


class TestSensors:
    def test_a_sensor_after_a_dry_run_is_skipped_because_nothing_was_sent_that_it_could_wait_for(
        self, read_only, token
    ):
        result = attempt(toggle(token))
        for task in (
            BatchCampaignLiveSensor(task_id="sensor", campaign=result),
            BatchCampaignStatsSensor(task_id="sensor", campaign=result),
            BatchCampaignLiveSensor(task_id="sensor", campaign=[result]),
        ):
            with pytest.raises(AirflowSkipException, match="dry run"):
                attempt(task)

    def test_a_sensor_waits_for_a_token_as_usual(self, read_only, running):
        summary = attempt(BatchCampaignLiveSensor(task_id="sensor", campaign=running))
        assert summary["live"] is True

    def test_a_sensor_over_a_list_leaves_what_was_not_sent_aside_and_waits_for_the_others(
        self, read_only, token, running
    ):
        task = BatchCampaignLiveSensor(task_id="sensor", campaign=[attempt(toggle(token)), NOT_CREATED, running])
        summaries, log = logged(task)
        assert [summary["campaign_token"] for summary in summaries] == [running]
        assert [text.split(".")[0] for level, text in log if level == "warning"][:2] == [
            "campaign[0] is left out",
            "campaign[1] is left out",
        ]


class TestNotifier:
    def test_a_callback_does_not_stop_the_campaign_and_warns(self, read_only, running, caplog):
        SetCampaignLiveNotifier(campaign=running)({"ti": None})
        assert f"is NOT stopped, because {REASON}." in caplog.text
        assert writes(read_only) == []

    def test_a_callback_reads_the_connection_again_within_its_time(self, clock, caplog):
        with pytest.raises(BatchConnectionError):
            SetCampaignLiveNotifier(campaign="token")({"ti": None})
        assert clock.slept == [5.0]
        assert "NOT switched" in caplog.text
