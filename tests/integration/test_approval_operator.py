"""What BatchCampaignApprovalOperator does before it waits and with the answer, against the sandbox.

A real scheduler puts the questions in tests/system/test_approval.py. Here a stand-in keeps them as Airflow does.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from airflow.providers.standard.exceptions import HITLTriggerEventError
from airflow.sdk import DAG, Param
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
from task import Attempt, context_of

from airflow_batch._airflow.compat import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from airflow_batch._campaigns.diff import request_form
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchChangeRefusedError,
    BatchConfigurationError,
    BatchError,
    BatchNotVisibleError,
    BatchPayloadError,
    BatchVerificationError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.notifications.campaigns import SetCampaignLiveNotifier
from airflow_batch.operators.approval import BatchCampaignApprovalOperator
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator, BatchUpdateCampaignOperator
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sandbox import BatchSandbox, Contract, Fault

SALE = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "messages": [{"language": "en", "title": "Sale", "body": "Hi"}],
}
NEW_TEXT = [{"language": "en", "body": "New"}]
ANN = {"id": "1", "name": "Ann"}
HOUR = timedelta(hours=1)


class Airflow:
    """Keeps one question as Airflow's API does: that of an earlier attempt stays."""

    def __init__(self, *, refreshes=False):
        self.refreshes = refreshes
        self.kept = None
        self.put = 0

    def send(self, msg):
        if not isinstance(msg, CreateHITLDetailPayload):  # what is to be masked in logs
            return None
        self.put += 1
        if self.kept is None or self.refreshes:
            self.kept = msg
        return self.kept


@pytest.fixture
def airflow(monkeypatch):
    keeper = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", keeper, raising=False)
    return keeper


class Instance(Attempt):
    """A task instance with an id, which keeps what is pushed to XCom."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.id, self.pushed = uuid4(), {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def asking(task, try_number=1):
    """The context of an attempt, as Airflow's own operator needs it."""
    context = context_of(task, kind=Instance, try_number=try_number)
    return {**context, "task_instance": context["ti"]}


def ask(task, try_number=1):
    """Put the question of a task, and return what Airflow keeps for the answer."""
    try:
        task.execute(asking(task, try_number))
    except BaseException as waits:  # of another class from Airflow 3.3 on
        if getattr(waits, "method_name", None) != "execute_complete":
            raise
        return waits.kwargs
    raise AssertionError("The task did not wait.")


def event(option="Approve", *, by=ANN, at=None):
    return {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": at or datetime.now(UTC),
        "responded_by_user": by,
        "timedout": by is None,
    }


def approval(campaign, **arguments):
    return BatchCampaignApprovalOperator(task_id="approve", campaign=campaign, **arguments)


def approved(campaign, option="Approve", *, by=ANN, at=None, **arguments):
    """The result of a question and its answer."""
    task = approval(campaign, **arguments)
    kept = ask(task)
    return task.execute_complete(asking(task), event(option, by=by, at=at), **kept)


def switch(result, live=True, *, late=timedelta(0), run_type="scheduled", **arguments):
    task = BatchSetCampaignLiveOperator(task_id="live", campaign=result, live=live, **arguments)
    return task.execute(context_of(task, late=late, run_type=run_type))


def update(result, payload):
    task = BatchUpdateCampaignOperator(task_id="update", campaign=result, payload=payload)
    return task.execute(context_of(task))


def edit(token, **changes):
    """Somebody else changes the campaign."""
    hook = BatchHook()
    hook.update_campaign(token, {**request_form(hook.get_campaign(token)), **changes})


# --------------------------------------------------------------------------------------------------- before the wait


def test_the_question_holds_the_campaign_and_its_name_is_the_headline(batch, airflow):
    token = batch.add_campaign(SALE)
    ask(approval(token, timezone="Europe/Paris", assigned_users=ANN, defaults="Reject"))
    assert airflow.kept.subject == "Send the campaign Summer sale?"
    assert "2099-06-01 11:00:00 Europe/Paris" in airflow.kept.body
    assert airflow.kept.options == ["Approve", "Reject"]
    assert airflow.kept.defaults == ["Reject"]
    assert [user.name for user in airflow.kept.assigned_users] == ["Ann"]
    assert [record.operation for record in batch.requests] == ["view"]


def test_times_are_shown_in_the_time_zone_of_the_dag(batch, airflow):
    import pendulum

    with DAG("dag", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Tokyo")):
        task = approval(batch.add_campaign(SALE))
    ask(task)
    assert "2099-06-01 18:00:00 Asia/Tokyo" in airflow.kept.body


def test_notifiers_are_called_when_the_question_is_put(batch, airflow):
    told = []
    task = approval(batch.add_campaign(SALE))
    task.notifiers = [lambda context: told.append(context["task"].body)]
    ask(task)
    assert "Summer sale" in told[0]


def test_a_throttle_reschedules_before_anybody_is_asked(batch, airflow):
    token = batch.add_campaign(SALE)
    batch.inject(Fault("answer", "view", status=429))
    task = approval(token)
    with pytest.raises(AirflowRescheduleException):
        task.execute(asking(task))
    assert airflow.put == 0
    ask(task)


def test_a_key_that_cannot_read_is_an_error_before_anybody_is_asked(dev, airflow):
    task = approval(dev.add_campaign(SALE))
    with pytest.raises(BatchApiMisuseError, match="needs a Live API key"):
        task.execute(asking(task))
    assert airflow.put == 0


def test_a_new_campaign_that_does_not_show_yet_is_retried(batch, airflow):
    task = approval("d9d5e5a52ca08110d4893af3254ec21b")
    with pytest.raises(BatchNotVisibleError) as error:
        task.execute(asking(task))
    assert error.value.transient


@pytest.mark.parametrize(
    ("payload", "error"), [("not JSON", BatchPayloadError), ({"push_time": "2020-01-01T00:00:00", "live": True}, None)]
)
def test_what_would_be_refused_later_is_refused_before_anybody_is_asked(batch, airflow, payload, error):
    task = approval(batch.add_campaign(SALE), payload=payload)
    with pytest.raises(error or BatchChangeRefusedError):
        task.execute(asking(task))
    assert airflow.put == 0


def test_a_question_of_an_earlier_attempt_with_another_text_is_not_put_again(batch, airflow):
    token = batch.add_campaign(SALE)
    task = approval(token)
    ask(task)
    ask(approval(token), 2)  # the same campaign: the same question
    edit(token, messages=NEW_TEXT)
    with pytest.raises(BatchChangeRefusedError, match=r"question of an earlier attempt .* body would be another one"):
        approval(token).execute(asking(task, 3))


def test_a_question_of_an_earlier_attempt_for_other_users_is_not_put_again(batch, airflow):
    token = batch.add_campaign(SALE)
    ask(approval(token))
    task = approval(token, assigned_users=ANN)
    with pytest.raises(BatchChangeRefusedError, match="assigned_users would be another one"):
        task.execute(asking(task, 2))


def test_a_question_with_tuples_is_put_again_as_the_same(batch, airflow):
    token = batch.add_campaign(SALE)
    form = {"note": Param("", type=["string", "null"]), "pair": (1, 2)}
    for attempt in (1, 2):
        ask(approval(token, defaults=("Reject",), params=form), attempt)
    assert airflow.put == 3
    with pytest.raises(BatchChangeRefusedError, match="params would be another one"):
        approval(token, defaults=("Reject",), params={**form, "pair": (2, 1)}).execute(asking(approval(token), 3))


def test_an_airflow_that_shows_the_new_text_puts_the_question_again(batch, airflow):
    airflow.refreshes = True
    token = batch.add_campaign(SALE)
    ask(approval(token))
    edit(token, messages=NEW_TEXT)
    ask(approval(token), 2)
    assert "`New`" in airflow.kept.body


def test_the_first_attempt_puts_its_question_once_so_no_answer_is_dropped(batch, airflow):
    ask(approval(batch.add_campaign(SALE)))
    assert airflow.put == 1


def test_the_headline_writes_invisible_characters_out(batch, airflow):
    ask(approval(batch.add_campaign({**SALE, "name": "Sale\u202e\u200b"})))
    assert airflow.kept.subject == "Send the campaign Sale\\u202e\\u200b?"


def test_the_headline_has_the_new_name_of_a_payload_that_renames(batch, airflow):
    ask(approval(batch.add_campaign(SALE), payload={"name": "Winter sale"}))
    assert airflow.kept.subject == "Send the campaign Winter sale?"


def test_through_a_connection_that_never_writes_the_question_says_that_nothing_will_be_sent(
    batch, airflow, monkeypatch
):
    connection = {**batch.connection(), "extra": {"dry_run": True}}
    monkeypatch.setenv("AIRFLOW_CONN_BATCH_DEFAULT", json.dumps(connection))
    ask(approval(batch.add_campaign(SALE)))
    assert "Nothing will be sent, because connection 'batch_default' has dry_run" in airflow.kept.body


def test_the_time_limit_of_default_args_holds_for_the_answer(batch, airflow):
    task = approval("545fce15f8b04d5b9b1d5c8e3a7c9d20", execution_timeout=timedelta(minutes=10))
    limit = getattr(task, "response_timeout", None) or task.execution_timeout
    assert limit == timedelta(minutes=10)


# -------------------------------------------------------------------------------------------------------- the answer


def test_the_result_is_what_was_shown_and_not_a_later_view(batch, airflow):
    token = batch.add_campaign(SALE)
    task = approval(token)
    kept = ask(task)
    edit(token, name="Another name")
    requests = len(batch.requests)
    result = task.execute_complete(asking(task), event(), **kept)
    assert len(batch.requests) == requests
    assert (result["campaign_token"], result["name"], result["live"]) == (token, "Summer sale", False)
    assert result["approval"]["answered_by"] == "Ann"
    assert result["approval"]["approved"] is True
    assert len(result["approval"]["digest"]) == 64
    with pytest.raises(BatchChangeRefusedError, match="name changed since the approval"):
        switch(result)


def test_an_answer_without_what_was_shown_approves_nothing(batch, airflow):
    task = approval(batch.add_campaign(SALE))
    ask(task)
    with pytest.raises(BatchChangeRefusedError, match="was not kept"):
        task.execute_complete(asking(task), event())


def test_a_rejection_leaves_its_result_for_a_stop_and_switches_nothing_on(batch, airflow):
    token = batch.add_campaign({**SALE, "live": True})
    result = approved(token, "Reject")
    assert result["approval"]["approved"] is False
    with pytest.raises(BatchChangeRefusedError, match="no person has approved it"):
        switch(result)
    assert switch(result, live=False)["changed"] is True


def test_a_rejection_pushes_its_result_before_airflow_skips_what_follows(batch, airflow):
    task = approval(batch.add_campaign(SALE))
    context = asking(task)
    kept = ask(task)
    task.execute_complete(context, event("Reject"), **kept)
    assert context["ti"].pushed["return_value"]["approval"]["approved"] is False


def test_an_approval_that_nobody_gave_is_none(batch, airflow):
    result = approved(batch.add_campaign(SALE), by=None)
    with pytest.raises(BatchChangeRefusedError, match="no person has approved it"):
        switch(result)


def test_the_end_of_the_time_fails_for_good_and_another_error_is_retried(batch, airflow):
    task = approval(batch.add_campaign(SALE), response_timeout=HOUR)
    kept, context = ask(task), asking(task)
    with pytest.raises(AirflowFailException, match="Nobody has answered"):
        task.execute_complete(context, {"error": "the time is over", "error_type": "timeout"}, **kept)
    with pytest.raises(HITLTriggerEventError):
        task.execute_complete(context, {"error": "wrong", "error_type": "validation"}, **kept)


def test_fail_on_reject_fails_for_good(batch, airflow):
    task = approval(batch.add_campaign(SALE), fail_on_reject=True)
    with pytest.raises(AirflowFailException, match="Reject"):
        task.execute_complete(asking(task), event("Reject"), **ask(task))


# ------------------------------------------------------------------------------------------------------ what follows


def test_what_was_approved_goes_live(batch, airflow):
    token = batch.add_campaign(SALE)
    assert switch(approved(token))["changed"] is True
    assert batch.campaign(token)["live"] is True


def test_what_was_edited_after_the_answer_does_not_go_live(batch, airflow):
    token = batch.add_campaign(SALE)
    result = approved(token)
    edit(token, messages=NEW_TEXT)
    with pytest.raises(BatchChangeRefusedError, match="messages changed since the approval"):
        switch(result)
    assert batch.campaign(token)["live"] is False


def test_the_approved_payload_is_sent_and_another_is_not(batch, airflow):
    payload = {"messages": NEW_TEXT, "live": True}
    token = batch.add_campaign(SALE)
    result = approved(token, payload=payload)
    with pytest.raises(BatchChangeRefusedError, match="not as approved: messages"):
        update(result, {**payload, "messages": [{"language": "en", "body": "Other"}]})
    assert update(result, payload)["changed"] is True
    assert batch.campaign(token)["messages"] == NEW_TEXT


def test_without_a_view_nothing_goes_live(batch, airflow, connect):
    token = batch.add_campaign(SALE)
    result = approved(token)
    connect(batch.connection(kind="dev"))
    with pytest.raises(BatchChangeRefusedError, match="cannot be read"):
        switch(result, definition=SALE)
    assert switch(result, live=False)["http_status"] == 200


def test_read_never_compares_nothing_so_nothing_goes_live(batch, airflow):
    result = approved(batch.add_campaign(SALE))
    with pytest.raises(BatchChangeRefusedError, match="cannot be read"):
        switch(result, definition=SALE, read="never")


def test_lateness_counts_from_the_answer(batch, airflow):
    airflow.refreshes, now = True, datetime.now(UTC)
    in_time = approved(batch.add_campaign(SALE), at=now - HOUR / 2)
    assert switch(in_time, late=10 * HOUR)["changed"] is True
    too_late = approved(batch.add_campaign({**SALE, "name": "Other"}), at=now - 2 * HOUR)
    with pytest.raises(AirflowSkipException, match="max_lateness"):
        switch(too_late, late=10 * HOUR)


def test_lateness_of_an_update_counts_from_the_answer(batch, airflow):
    payload = {"push_time": "now", "live": True}
    task = BatchUpdateCampaignOperator(
        task_id="update",
        campaign=approved(batch.add_campaign(SALE), payload=payload, at=datetime.now(UTC) - 2 * HOUR),
        payload=payload,
    )
    with pytest.raises(AirflowSkipException, match="max_lateness"):
        task.execute(context_of(task))


@pytest.mark.parametrize("at", [datetime(2099, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_an_answer_in_the_future_counts_as_of_now_and_blocks_no_stop(batch, airflow, at):
    token = batch.add_campaign({**SALE, "live": True})
    result = approved(token, at=at)
    task = BatchSetCampaignLiveOperator(task_id="live", campaign=result, live=True)
    latest = task.latest_on(context_of(task, late=HOUR), HOUR)
    assert latest is not None
    assert latest <= datetime.now(UTC) + HOUR
    assert switch(result, live=False)["changed"] is True


def test_an_update_that_stops_sends_nothing_else_that_is_not_as_approved(batch, airflow):
    token = batch.add_campaign({**SALE, "live": True})
    result = approved(token, payload={"labels": ["SALE"], "live": False})
    with pytest.raises(BatchChangeRefusedError, match=r"is stopped, but .* does not set messages"):
        update(result, {"messages": NEW_TEXT, "live": False})
    assert batch.campaign(token)["live"] is False
    assert batch.campaign(token)["messages"] == SALE["messages"]
    assert update(result, {"labels": ["SALE"], "live": False})["changed"] is True
    assert batch.campaign(token)["labels"] == ["SALE"]


@pytest.fixture
def merging(connect):
    """A Batch whose updates keep the parameters that they leave out."""
    with BatchSandbox(contract=Contract(update_mode="merge")) as batch:
        connect(batch.connection())
        yield batch


@pytest.fixture
def edit_before_the_write(monkeypatch):
    """Somebody adds a deep link to a campaign between a task's read and its write."""

    def arrange(token):
        write = BatchHook.update_campaign

        def write_after_an_edit(hook, *arguments, **options):
            monkeypatch.setattr(BatchHook, "update_campaign", write)
            edit(token, deeplink="myapp://other")
            return write(hook, *arguments, **options)

        monkeypatch.setattr(BatchHook, "update_campaign", write_after_an_edit)

    return arrange


@pytest.mark.parametrize("payload", [None, {"name": "Winter sale", "live": True}, {"name": "Winter sale"}])
def test_what_is_added_between_the_read_and_the_write_fails_the_task(merging, airflow, edit_before_the_write, payload):
    token = merging.add_campaign(SALE)
    result = approved(token, payload=payload)
    edit_before_the_write(token)
    goes_live = payload is None or "live" in payload
    what = "switched on, but .* deeplink changed .* stop it" if goes_live else "updated, but .* deeplink changed"
    with pytest.raises(BatchVerificationError, match=what):
        switch(result) if payload is None else update(result, payload)
    assert merging.campaign(token)["live"] is goes_live
    if goes_live:  # what a retry says
        with pytest.raises(BatchChangeRefusedError, match=r"deeplink\b.* It is live: stop it"):
            switch(result) if payload is None else update(result, payload)


def test_a_push_that_went_out_with_something_added_is_a_warning(merging, airflow, edit_before_the_write, capsys):
    token, payload = merging.add_campaign(SALE), {"push_time": "now", "live": True}
    result = approved(token, payload=payload)
    edit_before_the_write(token)
    assert update(result, payload)["changed"] is True
    assert "not as approved: deeplink changed" in capsys.readouterr().out


def test_the_record_alone_approves_as_the_whole_result_does(batch, airflow):
    token = batch.add_campaign(SALE)
    record = approved(token)["approval"]
    edit(token, messages=NEW_TEXT)
    with pytest.raises(BatchChangeRefusedError, match="messages changed since the approval"):
        switch(record)
    assert batch.campaign(token)["live"] is False


# ----------------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize("defaults", ["Approve", ["Approve"], ["Approve", "Reject"], [], "approve"])
def test_defaults_that_approve_are_refused_when_the_dag_is_parsed_for_mapped_tasks_too(defaults):
    with pytest.raises(BatchConfigurationError, match="defaults is"):
        approval("x", defaults=defaults)
    with pytest.raises(BatchConfigurationError, match="defaults is"):
        BatchCampaignApprovalOperator.partial(task_id="approve", defaults=defaults)


def test_a_body_and_an_unknown_time_zone_are_refused_when_the_dag_is_parsed():
    with pytest.raises(BatchConfigurationError, match="body is made from the campaign"):
        approval("x", body="Mine")
    with pytest.raises(BatchConfigurationError, match="Mars"):
        approval("x", timezone="Mars/North")


def test_the_defaults_of_other_operators_hold_here_too(airflow):
    task = approval("x", response_timeout=HOUR)
    assert task.retries == 6
    assert task.response_timeout == HOUR
    assert SimpleNamespace(**BatchCampaignApprovalOperator.partial(task_id="a").kwargs).retries == 6


# ------------------------------------------------------------------------------------------- the sync and the notifier


@pytest.mark.parametrize(
    ("option", "is_edited", "live"), [("Approve", False, True), ("Approve", True, False), ("Reject", False, False)]
)
def test_a_sync_and_a_callback_switch_on_only_what_was_approved(batch, airflow, option, is_edited, live):
    for switch_on in (sync_one, call_back):
        token = batch.add_campaign(SALE)
        airflow.kept = None
        result = approved(token, option)
        if is_edited:
            edit(token, messages=NEW_TEXT)
        if live:
            switch_on(result)
        else:
            with pytest.raises(BatchError, match="neither switched on nor updated"):
                switch_on(result)
        assert batch.campaign(token)["live"] is live


def test_a_sync_stops_a_campaign_whatever_its_approval_says(batch, airflow):
    token = batch.add_campaign({**SALE, "live": True})
    sync_one({"campaign_token": token, "app": None, "approval": None}, live=False)
    assert batch.campaign(token)["live"] is False


def sync_one(result, live=True):
    task = BatchSyncCampaignsOperator(task_id="sync", campaigns=[{"campaign": result, "live": live}])
    return task.execute(asking(task))


def call_back(result):
    SetCampaignLiveNotifier(campaign=result, live=True)({"ti": Attempt()})
