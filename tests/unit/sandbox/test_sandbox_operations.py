"""Create, view, list and delete, as far as they are documented or observed."""

from __future__ import annotations

import re

import pytest

from airflow_batch.sandbox import Contract

SUMMARY_KEYS = {"campaign_token", "from_api", "dev_only", "created_date", "name", "live"}
NOT_FOUND, MISUSE = (404, 20, "ROUTE_NOT_FOUND"), (403, 12, "API_MISUSE")


def tokens_of(answer):
    return [item["campaign_token"] for item in answer.json()]


def test_create_answers_201_with_a_token_of_32_hex_digits(api, definition):
    response = api.create(definition)

    assert response.status_code == 201
    assert list(response.json()) == ["campaign_token"]
    assert re.fullmatch("[0-9a-f]{32}", response.json()["campaign_token"])


def test_a_repeated_create_makes_a_second_campaign(api, sandbox, definition):
    assert api.create(definition).json() != api.create(definition).json()
    assert len(sandbox.tokens()) == 2


def test_view_gives_the_definition_and_four_fields_of_the_server(api, definition):
    ignored = {"campaign_token": "mine", "from_api": False, "trigger": {}}
    token = api.create({**definition, **ignored}).json()["campaign_token"]

    response = api.view(token)

    assert response.status_code == 200
    assert response.json() == {
        **definition,
        "campaign_token": token,
        "from_api": True,
        "dev_only": False,
        "created_date": "2030-01-01T12:00:00",
    }


def test_view_gives_a_push_time_of_now_as_the_time_of_the_write_and_the_collapse_key_as_text(api, definition):
    collapse = {"enabled": True, "key": "sale"}
    token = api.create({**definition, "push_time": "now", "gcm_collapse_key": collapse}).json()["campaign_token"]

    assert api.view(token).json().items() >= {"push_time": "2030-01-01T12:00:00", "gcm_collapse_key": "sale"}.items()


def test_the_language_of_messages_and_the_form_of_the_collapse_key_in_view_are_choices_of_the_contract(
    make_sandbox, make_api, definition
):
    sandbox = make_sandbox(contract=Contract(message_language_in_view=False, collapse_key_in_view="object"))
    collapse = {"enabled": True, "key": "sale"}
    token = sandbox.add_campaign({**definition, "gcm_collapse_key": collapse})

    view = make_api(sandbox).view(token).json()

    assert view["messages"] == [{"body": "20 % off"}]
    assert view["gcm_collapse_key"] == collapse


def test_view_gives_the_trigger_of_a_trigger_automation_and_list_does_not(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "trigger": {}})

    assert api.view(token).json()["trigger"] == {}
    assert set(api.list().json()[0]) == SUMMARY_KEYS


def test_a_dev_key_may_create_list_and_delete_but_not_view_or_read_stats(sandbox, make_api, error):
    dev = make_api(sandbox, kind="dev")
    token = dev.create().json()["campaign_token"]

    assert sandbox.campaign(token)["dev_only"] is True
    assert dev.list().status_code == 200
    assert [error(answer) for answer in (dev.view(token), dev.stats(token))] == [MISUSE] * 2
    assert dev.delete(token).status_code == 200
    assert sandbox.tokens() == ()


def test_every_answer_has_the_date_of_the_sandbox_clock(api):
    assert [answer.headers["Date"] for answer in (api.list(), api.view("0" * 32))] == [
        "Tue, 01 Jan 2030 12:00:00 GMT"
    ] * 2


def test_list_is_an_array_of_summaries_newest_first(api, sandbox, clock, definition):
    old = sandbox.add_campaign({**definition, "name": "old"})
    clock.advance(hours=1)
    new = sandbox.add_campaign({**definition, "name": "new"}, from_api=False)

    page = api.list()

    assert tokens_of(page) == [new, old]
    assert all(set(item) == SUMMARY_KEYS for item in page.json())
    assert page.json()[0] == {
        "campaign_token": new,
        "from_api": False,
        "dev_only": False,
        "created_date": "2030-01-01T13:00:00",
        "name": "new",
        "live": False,
    }


def test_list_gives_ten_campaigns_by_default_and_100_at_most(api, sandbox, definition):
    tokens = [sandbox.add_campaign(definition) for _ in range(101)][::-1]

    assert tokens_of(api.list()) == tokens[:10]
    assert tokens_of(api.list(limit=11)) == tokens[:11]
    assert tokens_of(api.list(limit=1000)) == tokens[:100]
    assert tokens_of(api.list(**{"from": 99, "limit": 3})) == tokens[99:]


@pytest.mark.parametrize("query", [{"limit": "many"}, {"limit": 0}, {"from": -1}, {"live": "True"}, {"from_api": "1"}])
def test_a_list_parameter_that_is_not_allowed_is_refused(api, error, query):
    assert error(api.list(**query)) == (400, 31, "MALFORMED_PARAMETER")


def test_list_filters_by_live_and_by_origin_before_it_counts(api, sandbox, definition):
    tokens = {
        (live, from_api): sandbox.add_campaign({**definition, "live": live}, from_api=from_api)
        for live in (True, False)
        for from_api in (True, False)
    }

    assert tokens_of(api.list()) == [*tokens.values()][::-1]
    assert tokens_of(api.list(live="true")) == [tokens[True, False], tokens[True, True]]
    assert tokens_of(api.list(from_api="false")) == [tokens[False, False], tokens[True, False]]
    assert tokens_of(api.list(live="true", from_api="false")) == [tokens[True, False]]
    assert tokens_of(api.list(**{"live": "true", "from": 1, "limit": 1})) == [tokens[True, True]]


def test_list_counts_complete_and_sent_campaigns_as_live_and_stopped_ones_as_not(api, sandbox, clock, definition):
    soon = {**definition, "push_time": "2030-01-01T13:00:00"}
    draft = sandbox.add_campaign(soon)
    sent = sandbox.add_campaign({**soon, "live": True})
    complete = sandbox.add_campaign({**definition, "live": True}, complete=True)
    stopped_after_it_was_sent = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})
    api.update(stopped_after_it_was_sent, {"live": False})
    clock.advance(hours=2)

    assert sandbox.is_complete(sent)
    assert sandbox.is_complete(stopped_after_it_was_sent)
    assert tokens_of(api.list(live="true")) == [complete, sent]
    assert tokens_of(api.list(live="false")) == [stopped_after_it_was_sent, draft]


@pytest.mark.parametrize("body", ["{}", ""])
def test_update_and_delete_answer_200_with_the_body_of_the_contract(make_sandbox, make_api, definition, body):
    sandbox = make_sandbox(contract=Contract(update_success_body=body, delete_success_body=body))
    api, token = make_api(sandbox), sandbox.add_campaign(definition)

    for answer in (api.update(token, {"live": True}), api.delete(token)):
        assert (answer.status_code, answer.text) == (200, body)
    assert Contract().update_success_body == Contract().delete_success_body == "{}"


@pytest.mark.parametrize("change", [{"live": False}, {"live": True}, {"live": True, "push_time": "now"}], ids=str)
@pytest.mark.parametrize("from_api", [True, False])
def test_a_deleted_campaign_is_gone_from_every_operation_whatever_its_state(
    api, sandbox, definition, error, change, from_api
):
    token = sandbox.add_campaign({**definition, **change}, from_api=from_api)
    other = sandbox.add_campaign(definition)

    assert api.delete(token).status_code == 200

    answers = [api.view(token), api.stats(token), api.update(token, {"live": True}), api.delete(token)]
    assert [error(answer) for answer in answers] == [NOT_FOUND] * 4
    newest = sandbox.add_campaign(definition)
    assert tokens_of(api.list()) == [newest, other]
    with pytest.raises(KeyError):
        sandbox.campaign(token)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"live": "yes"}'])
def test_the_body_of_a_delete_is_not_read(make_sandbox, make_api, definition, body):
    sandbox = make_sandbox(contract=Contract(content_type="MALFORMED_JSON_BODY"))

    assert make_api(sandbox).delete(sandbox.add_campaign(definition), data=body).status_code == 200


def test_a_campaign_that_a_test_removes_is_gone_whoever_made_it(sandbox):
    kept, removed = (sandbox.add_campaign({"name": "abc", "live": False}, from_api=False) for _ in range(2))
    sandbox.remove_campaign(removed)
    assert sandbox.tokens() == (kept,)
    with pytest.raises(KeyError):
        sandbox.remove_campaign(removed)
