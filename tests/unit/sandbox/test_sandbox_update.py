"""Update: the three rules of the documentation, the three modes, and completion."""

from __future__ import annotations

import pytest

from airflow_batch.sandbox import Contract

MODES = pytest.mark.parametrize("mode", ["strict", "merge", "replace"])
RECURRENCE = {"repeat_unit": "DAILY", "repeat_frequency": 1}


def test_update_answers_200_with_an_empty_object(api, sandbox, definition):
    response = api.update(sandbox.add_campaign(definition), {"live": True})

    assert (response.status_code, response.content) == (200, b"{}")


def test_update_can_answer_without_a_body(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(update_success_body=""))
    response = make_api(sandbox).update(sandbox.add_campaign(definition), {"live": True})

    assert (response.status_code, response.content) == (200, b"")


@MODES
def test_a_full_definition_updates_in_every_mode(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition)

    response = make_api(sandbox).update(token, {**definition, "name": "Winter sale", "live": True, "labels": ["A"]})

    assert response.status_code == 200
    assert sandbox.campaign(token).items() >= {"name": "Winter sale", "live": True, "labels": ["A"]}.items()


def test_merge_keeps_what_is_not_given(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    api.update(token, {"live": True})

    assert sandbox.campaign(token).items() >= {**definition, "live": True}.items()


def test_merge_is_the_mode_unless_another_is_asked_for(api, sandbox, definition):
    assert api.update(sandbox.add_campaign(definition), {"name": "Winter sale"}).status_code == 200


def test_merge_replaces_a_parameter_whole(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "targeting": {"segments": ["NEW"], "query": {}}})

    api.update(token, {"targeting": {"segments": ["DORMANT"]}})

    assert sandbox.campaign(token)["targeting"] == {"segments": ["DORMANT"]}


def test_strict_refuses_fewer_parameters_than_the_campaign_has(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(update_mode="strict")
    token = sandbox.add_campaign(definition)

    response = make_api(sandbox).update(token, {"name": "Winter sale", "live": True})

    assert error(response) == (400, 30, "MISSING_PARAMETER")
    assert "messages, push_time" in response.json()["message"]
    assert sandbox.campaign(token)["live"] is False


def test_strict_counts_parameters_an_update_has_added(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(update_mode="strict")
    api, token = make_api(sandbox), sandbox.add_campaign(definition)

    assert api.update(token, {**definition, "labels": ["A"]}).status_code == 200
    assert error(api.update(token, definition)) == (400, 30, "MISSING_PARAMETER")


def test_replace_refuses_to_drop_a_parameter(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(update_mode="replace")
    token = sandbox.add_campaign({**definition, "labels": ["A"]})

    assert error(make_api(sandbox).update(token, definition)) == (403, 12, "API_MISUSE")
    assert sandbox.campaign(token)["labels"] == ["A"]


@MODES
def test_a_complete_campaign_cannot_be_set_live_again(make_sandbox, make_api, definition, error, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition, complete=True)

    assert error(make_api(sandbox).update(token, {**definition, "live": True})) == (403, 12, "API_MISUSE")
    assert sandbox.campaign(token)["live"] is False


def test_a_complete_campaign_can_be_renamed_and_stopped(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "live": True}, complete=True)

    assert api.update(token, {"name": "Winter sale"}).status_code == 200
    assert api.update(token, {"live": False}).status_code == 200


@MODES
def test_a_null_asks_for_a_removal_and_is_refused(make_sandbox, make_api, definition, error, mode):
    sandbox = make_sandbox(update_mode=mode)
    definition = {**definition, "labels": ["A"]}
    token = sandbox.add_campaign(definition)

    response = make_api(sandbox).update(token, {**definition, "labels": None})

    assert error(response) == (403, 12, "API_MISUSE")
    assert "labels" in response.json()["message"]
    assert sandbox.campaign(token)["labels"] == ["A"]


def test_a_null_for_a_parameter_the_campaign_does_not_have_changes_nothing(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    assert api.update(token, {"labels": None}).status_code == 200
    assert "labels" not in sandbox.campaign(token)


def test_nulls_can_be_ignored_instead(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(null_asks_removal=False))
    token = sandbox.add_campaign({**definition, "labels": ["A"]})

    assert make_api(sandbox).update(token, {"labels": None}).status_code == 200
    assert sandbox.campaign(token)["labels"] == ["A"]


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_recurring_campaign_cannot_become_one_time(make_sandbox, make_api, definition, error, mode):
    sandbox = make_sandbox(update_mode=mode, contract=Contract(recurring_to_one_time="MALFORMED_PARAMETER"))
    token = sandbox.add_campaign({**definition, "recurrence": RECURRENCE})

    response = make_api(sandbox).update(token, {**definition, "recurrence": None})

    assert error(response) == (400, 31, "MALFORMED_PARAMETER")
    assert "recurring" in response.json()["message"]
    assert sandbox.campaign(token)["recurrence"] == RECURRENCE


def test_a_one_time_campaign_can_become_recurring(api, sandbox, definition):
    token = sandbox.add_campaign(definition)

    assert api.update(token, {"recurrence": RECURRENCE}).status_code == 200
    assert sandbox.campaign(token)["recurrence"] == RECURRENCE


@MODES
def test_a_local_time_can_take_the_place_of_a_push_time(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition)
    del definition["push_time"]

    response = make_api(sandbox).update(token, {**definition, "local_push_time": "2030-06-01T09:00:00"})

    assert response.status_code == 200
    assert "push_time" not in sandbox.campaign(token)


def test_a_local_time_beside_a_push_time_can_be_refused_instead(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(contract=Contract(timing_is_one_slot=False))
    token = sandbox.add_campaign(definition)

    response = make_api(sandbox).update(token, {"local_push_time": "2030-06-01T09:00:00"})

    assert error(response) == (400, 31, "MALFORMED_PARAMETER")


@MODES
def test_an_update_neither_needs_nor_loses_the_trigger(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign({**definition, "trigger": {}})

    response = make_api(sandbox).update(token, {**definition, "live": True})

    assert response.status_code == 200
    assert sandbox.campaign(token).items() >= {"live": True, "trigger": {}}.items()


@MODES
@pytest.mark.parametrize("trigger", [{"event": "e.bought"}, None], ids=str)
def test_an_update_changes_no_trigger(make_sandbox, make_api, definition, mode, trigger):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign({**definition, "trigger": {}})

    assert make_api(sandbox).update(token, {**definition, "trigger": trigger}).status_code == 200
    assert sandbox.campaign(token)["trigger"] == {}


@MODES
def test_an_update_makes_no_trigger_automation(make_sandbox, make_api, definition, mode):
    sandbox = make_sandbox(update_mode=mode)
    token = sandbox.add_campaign(definition)

    assert make_api(sandbox).update(token, {**definition, "trigger": {}}).status_code == 200
    assert "trigger" not in sandbox.campaign(token)


def test_a_campaign_made_in_the_dashboard_cannot_be_updated(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition, from_api=False)

    assert error(api.update(token, {"live": True})) == (403, 12, "API_MISUSE")
    assert sandbox.campaign(token)["live"] is False


def test_whether_a_dashboard_campaign_can_be_updated_is_a_choice(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(dashboard_update=None))

    assert make_api(sandbox).update(sandbox.add_campaign(definition, from_api=False), {"live": True}).status_code == 200


def test_a_malformed_value_is_refused_and_nothing_changes(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)

    assert error(api.update(token, {"name": "Winter sale", "live": "yes"})) == (400, 31, "MALFORMED_PARAMETER")
    assert sandbox.campaign(token)["name"] == "Summer sale"


def test_a_push_time_in_the_past_is_accepted_unless_the_contract_refuses_it(make_sandbox, make_api, definition, error):
    past = {"push_time": "2029-12-31T23:59:59"}
    lenient, severe = make_sandbox(), make_sandbox(contract=Contract(past_push_time="MALFORMED_PARAMETER"))

    assert make_api(lenient).update(lenient.add_campaign(definition), past).status_code == 200
    answer = make_api(severe).update(severe.add_campaign(definition), past)
    assert error(answer) == (400, 31, "MALFORMED_PARAMETER")


def test_update_of_a_body_that_is_not_json_is_refused(api, sandbox, definition, error):
    token = sandbox.add_campaign(definition)

    assert error(api.send("POST", f"campaigns/update/{token}", data=b"{")) == (400, 32, "MALFORMED_JSON_BODY")


def test_a_one_time_campaign_is_complete_once_it_is_live_and_its_time_has_passed(
    api, sandbox, clock, definition, error
):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00"})
    assert not sandbox.is_complete(token)

    clock.advance(hours=1)

    assert sandbox.is_complete(token)
    assert api.view(token).json()["live"] is True
    assert error(api.update(token, {"live": True})) == (403, 12, "API_MISUSE")


def test_a_campaign_that_was_stopped_after_it_was_sent_is_still_complete(api, sandbox, clock, definition, error):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00"})
    clock.advance(hours=2)

    api.update(token, {"live": False, "push_time": "2030-02-01T13:00:00"})

    assert error(api.update(token, {"live": True})) == (403, 12, "API_MISUSE")


def test_a_draft_is_not_complete_when_its_time_has_passed(sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "push_time": "2030-01-01T13:00:00"})
    clock.advance(hours=2)

    assert not sandbox.is_complete(token)


def test_a_campaign_stopped_in_time_can_go_live_again(api, sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "live": True})
    api.update(token, {"live": False})
    clock.advance(hours=1)

    assert api.update(token, {"live": True}).status_code == 200


def test_a_recurring_campaign_is_complete_only_when_a_test_says_so(sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "live": True, "recurrence": RECURRENCE})
    clock.advance(days=365)
    assert not sandbox.is_complete(token)

    sandbox.complete(token)

    assert sandbox.is_complete(token)


def test_a_trigger_automation_is_complete_only_when_a_test_says_so(sandbox, clock, definition):
    token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00", "trigger": {}})
    clock.advance(days=365)
    assert not sandbox.is_complete(token)

    sandbox.complete(token)

    assert sandbox.is_complete(token)


def test_completion_by_push_time_is_a_choice(make_sandbox, definition):
    sandbox = make_sandbox(contract=Contract(complete_by_push_time=False))

    assert not sandbox.is_complete(sandbox.add_campaign({**definition, "live": True, "push_time": "now"}))


def test_an_update_may_repeat_what_the_campaign_holds_even_where_a_new_campaign_could_not_have_it(api, sandbox):
    held = {"name": "A1", "live": False, "labels": ["A", "B", "C", "D"], "time_to_live": "3600"}
    token = sandbox.add_campaign({**held, "messages": {"a": [{"body": "Hi"}], "b": [{"body": "Hello"}]}})
    view = api.view(token).json()

    assert api.update(token, {**view, "live": True}).status_code == 200
    assert sandbox.campaign(token) == {**view, "live": True}


def test_a_campaign_can_be_created_with_messages_in_two_versions(api, sandbox, definition, error):
    one, other = [{"language": "en", "body": "Hi"}], [{"language": "en", "body": "Hello"}]
    versions = {**definition, "messages": {"a": one, "b": other}}
    token = api.create(versions).json()["campaign_token"]

    assert sandbox.campaign(token)["messages"] == {"a": one, "b": other}
    assert error(api.create({**versions, "messages": {"a": one, "b": []}})) == (400, 31, "MALFORMED_PARAMETER")


class TestPushes:
    def test_a_one_time_campaign_sends_one_push_when_its_push_time_passes_while_it_is_live(
        self, api, sandbox, clock, definition
    ):
        token = sandbox.add_campaign({**definition, "live": True, "push_time": "2030-01-01T13:00:00"})
        assert sandbox.pushes(token) == 0
        clock.advance(hours=2)
        api.view(token)
        api.update(token, {"name": "Sent already"})
        assert sandbox.pushes(token) == 1

    def test_each_accepted_write_of_now_sends_a_push(self, make_sandbox, make_api, definition):
        sandbox = make_sandbox(contract=Contract(complete_by_push_time=False))
        token = sandbox.add_campaign(definition)
        for _ in range(2):
            make_api(sandbox).update(token, {"live": True, "push_time": "now"})
        assert sandbox.pushes(token) == 2

    @pytest.mark.parametrize("change", [{"live": False, "push_time": "now"}, {"live": True}])
    def test_a_draft_and_a_campaign_whose_time_is_ahead_send_none(self, api, sandbox, definition, change):
        token = sandbox.add_campaign(definition)
        api.update(token, change)
        assert sandbox.pushes(token) == 0
