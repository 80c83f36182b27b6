"""Update: the three rules of the documentation, the three modes, completion and pushes."""

from __future__ import annotations

import pytest

from airflow_batch.sandbox import Contract

MODES = pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
RECURRENCE = {"repeat_unit": "DAILY", "repeat_frequency": 1}
MISUSE, MALFORMED = (403, 12, "API_MISUSE"), (400, 31, "MALFORMED_PARAMETER")
MISSING = (400, 30, "MISSING_PARAMETER")


@MODES
def test_a_full_definition_updates_in_every_mode(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition)

    response = make_api(sandbox).update(token, {**definition, "name": "Winter sale", "live": True, "labels": ["A"]})

    assert response.status_code == 200
    assert sandbox.campaign(token).items() >= {"name": "Winter sale", "live": True, "labels": ["A"]}.items()


def test_merge_is_the_default_mode_and_replaces_only_what_is_given_each_parameter_as_a_whole(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "targeting": {"segments": ["NEW"], "query": {}}})

    assert api.update(token, {"live": True, "targeting": {"segments": ["DORMANT"]}}).status_code == 200

    changed = {**definition, "live": True, "targeting": {"segments": ["DORMANT"]}}
    assert sandbox.campaign(token).items() >= changed.items()


def test_strict_refuses_fewer_parameters_than_the_campaign_has_now(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(update_mode="strict")
    api, token = make_api(sandbox), sandbox.add_campaign(definition)

    response = api.update(token, {"name": "Winter sale", "live": True})

    assert error(response) == MISSING
    assert "messages, push_time" in response.json()["message"]
    assert sandbox.campaign(token)["live"] is False
    assert api.update(token, {**definition, "labels": ["A"]}).status_code == 200
    assert error(api.update(token, definition)) == MISSING


def test_replace_refuses_to_drop_a_parameter(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(update_mode="replace")
    token = sandbox.add_campaign({**definition, "labels": ["A"]})

    assert error(make_api(sandbox).update(token, definition)) == MISUSE
    assert sandbox.campaign(token)["labels"] == ["A"]


@MODES
def test_a_complete_campaign_cannot_be_set_live_again(make_sandbox, make_api, definition, error, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition, complete=True)

    assert error(make_api(sandbox).update(token, {**definition, "live": True})) == MISUSE
    assert sandbox.campaign(token)["live"] is False


def test_a_complete_campaign_can_be_renamed_and_stopped(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "live": True}, complete=True)

    assert api.update(token, {"name": "Winter sale"}).status_code == 200
    assert api.update(token, {"live": False}).status_code == 200


@MODES
def test_a_null_removes_nothing_and_is_refused_where_the_campaign_has_the_parameter(
    make_sandbox, make_api, definition, error, mode
):
    sandbox = make_sandbox(update_mode=mode)
    definition = {**definition, "labels": ["A"]}
    api, token = make_api(sandbox), sandbox.add_campaign(definition)

    response = api.update(token, {**definition, "labels": None})

    assert error(response) == MISUSE
    assert "labels" in response.json()["message"]
    assert sandbox.campaign(token)["labels"] == ["A"]
    assert api.update(token, {**definition, "media": None}).status_code == 200
    assert "media" not in sandbox.campaign(token)


def test_that_a_null_is_ignored_is_a_choice_of_the_contract(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(null_asks_removal=False))
    token = sandbox.add_campaign({**definition, "labels": ["A"]})

    assert make_api(sandbox).update(token, {"labels": None}).status_code == 200
    assert sandbox.campaign(token)["labels"] == ["A"]


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_recurring_campaign_cannot_become_one_time(make_sandbox, make_api, definition, error, mode):
    sandbox = make_sandbox(update_mode=mode, contract=Contract(recurring_to_one_time="MALFORMED_PARAMETER"))
    token = sandbox.add_campaign({**definition, "recurrence": RECURRENCE})

    response = make_api(sandbox).update(token, {**definition, "recurrence": None})

    assert error(response) == MALFORMED
    assert "recurring" in response.json()["message"]
    assert sandbox.campaign(token)["recurrence"] == RECURRENCE


def test_a_one_time_campaign_can_become_recurring(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    assert api.update(token, {"recurrence": RECURRENCE}).status_code == 200
    assert sandbox.campaign(token)["recurrence"] == RECURRENCE


@MODES
def test_a_local_push_time_can_replace_a_push_time(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition)
    del definition["push_time"]

    response = make_api(sandbox).update(token, {**definition, "local_push_time": "2030-06-01T09:00:00"})

    assert response.status_code == 200
    assert "push_time" not in sandbox.campaign(token)


def test_that_a_local_push_time_next_to_a_push_time_is_refused_is_a_choice_of_the_contract(
    make_sandbox, make_api, definition, error
):
    sandbox = make_sandbox(contract=Contract(timing_is_one_slot=False))
    token = sandbox.add_campaign(definition)

    assert error(make_api(sandbox).update(token, {"local_push_time": "2030-06-01T09:00:00"})) == MALFORMED


@MODES
def test_an_update_neither_needs_nor_changes_a_trigger(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    api = make_api(sandbox)
    automation, plain = sandbox.add_campaign({**definition, "trigger": {}}), sandbox.add_campaign(definition)

    for trigger in ({}, {"trigger": {"event": "e.bought"}}, {"trigger": None}):
        assert api.update(automation, {**definition, **trigger}).status_code == 200
        assert sandbox.campaign(automation)["trigger"] == {}
    assert api.update(plain, {**definition, "trigger": {}}).status_code == 200
    assert "trigger" not in sandbox.campaign(plain)


def test_a_campaign_created_in_the_dashboard_cannot_be_updated(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition, from_api=False)

    assert error(api.update(token, {"live": True})) == MISUSE
    assert sandbox.campaign(token)["live"] is False


def test_an_update_with_a_malformed_value_changes_nothing(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)

    assert error(api.update(token, {"name": "Winter sale", "live": "yes"})) == MALFORMED
    assert sandbox.campaign(token)["name"] == "Summer sale"


def test_an_update_may_repeat_what_the_campaign_has_even_where_a_new_campaign_could_not_have_it(api, sandbox):
    kept = {"name": "A1", "live": False, "labels": ["A", "B", "C", "D"], "time_to_live": "3600"}
    token = sandbox.add_campaign({**kept, "messages": {"a": [{"body": "Hi"}], "b": [{"body": "Hello"}]}})
    view = api.view(token).json()

    assert api.update(token, {**view, "live": True}).status_code == 200
    assert sandbox.campaign(token) == {**view, "live": True}


def test_a_one_time_campaign_is_sent_and_complete_once_it_is_live_and_its_push_time_has_passed(
    api, sandbox, clock, definition, error
):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00"})
    assert not sandbox.is_complete(token)
    assert sandbox.pushes(token) == 0

    clock.advance(hours=1)

    assert sandbox.is_complete(token)
    assert api.view(token).json()["live"] is True
    assert error(api.update(token, {"live": True})) == MISUSE
    assert api.update(token, {"live": False, "push_time": "2030-02-01T13:00:00"}).status_code == 200
    assert error(api.update(token, {"live": True})) == MISUSE
    assert sandbox.pushes(token) == 1


@pytest.mark.parametrize("change", [{"live": False, "push_time": "now"}, {"live": True}])
def test_a_draft_and_a_campaign_whose_push_time_is_in_the_future_are_neither_sent_nor_complete(
    api, sandbox, definition, change
):
    token = sandbox.add_campaign(definition)
    api.update(token, change)

    assert sandbox.pushes(token) == 0
    assert not sandbox.is_complete(token)


def test_a_campaign_stopped_before_its_push_time_can_be_set_live_again(api, sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "live": True})
    api.update(token, {"live": False})
    clock.advance(hours=1)

    assert api.update(token, {"live": True}).status_code == 200


@pytest.mark.parametrize("kind", [{"recurrence": RECURRENCE}, {"trigger": {}, "push_time": "2030-01-01T13:00:00"}])
def test_a_recurring_or_triggered_campaign_is_complete_only_when_a_test_sets_it(sandbox, clock, definition, kind):
    token = sandbox.add_campaign({**definition, "live": True, **kind})
    clock.advance(days=365)
    assert not sandbox.is_complete(token)

    sandbox.complete(token)

    assert sandbox.is_complete(token)


def test_without_completion_by_push_time_each_accepted_write_of_now_sends_a_push(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(complete_by_push_time=False))
    token = sandbox.add_campaign(definition)
    for _ in range(2):
        make_api(sandbox).update(token, {"live": True, "push_time": "now"})

    assert sandbox.pushes(token) == 2
    assert not sandbox.is_complete(token)
