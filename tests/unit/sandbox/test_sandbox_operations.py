"""Create, view and list, as far as they are documented or observed."""

from __future__ import annotations

import re

import pytest

from airflow_batch.sandbox import Contract

SUMMARY_KEYS = {"campaign_token", "from_api", "dev_only", "created_date", "name", "live"}


def test_create_answers_201_with_a_token_of_32_hex_digits(api, definition):
    response = api.create(definition)

    assert response.status_code == 201
    assert list(response.json()) == ["campaign_token"]
    assert re.fullmatch("[0-9a-f]{32}", response.json()["campaign_token"])


def test_a_repeated_create_makes_a_second_campaign(api, sandbox, definition):
    assert api.create(definition).json() != api.create(definition).json()
    assert len(sandbox.tokens()) == 2


def test_view_gives_the_definition_and_four_fields_of_the_server(api, definition):
    token = api.create(definition).json()["campaign_token"]

    response = api.view(token)

    assert response.status_code == 200
    assert response.json() == {
        **definition,
        "campaign_token": token,
        "from_api": True,
        "dev_only": False,
        "created_date": "2030-01-01T12:00:00",
    }


def test_view_gives_a_push_time_of_now_as_the_moment_of_the_write(api, definition):
    token = api.create({**definition, "push_time": "now"}).json()["campaign_token"]

    assert api.view(token).json()["push_time"] == "2030-01-01T12:00:00"


def test_view_gives_the_collapse_key_as_plain_text(api, definition):
    token = api.create({**definition, "gcm_collapse_key": {"enabled": True, "key": "sale"}}).json()["campaign_token"]

    assert api.view(token).json()["gcm_collapse_key"] == "sale"


def test_view_can_leave_out_the_language_of_messages(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(message_language_in_view=False, collapse_key_in_view="object"))
    collapse = {"enabled": True, "key": "sale"}
    token = sandbox.add_campaign({**definition, "gcm_collapse_key": collapse})

    view = make_api(sandbox).view(token).json()

    assert view["messages"] == [{"body": "20 % off"}]
    assert view["gcm_collapse_key"] == collapse


def test_fields_of_the_server_in_a_payload_are_ignored(api, definition):
    token = api.create({**definition, "campaign_token": "mine", "from_api": False}).json()["campaign_token"]

    assert api.view(token).json()["campaign_token"] == token
    assert api.view(token).json()["from_api"] is True


def test_view_gives_the_trigger_of_a_trigger_automation(api, sandbox, definition):
    token = sandbox.add_campaign({**definition, "trigger": {}})

    assert api.view(token).json()["trigger"] == {}


def test_list_gives_no_trigger(api, sandbox, definition):
    sandbox.add_campaign({**definition, "trigger": {}})

    assert set(api.list().json()[0]) == SUMMARY_KEYS


def test_create_makes_no_trigger_automation(api, definition):
    response = api.create({**definition, "trigger": {}})

    assert response.status_code == 201
    assert "trigger" not in api.view(response.json()["campaign_token"]).json()


def test_a_campaign_created_with_a_dev_key_is_for_developers_only(sandbox, make_api):
    token = make_api(sandbox, kind="dev").create().json()["campaign_token"]

    assert sandbox.campaign(token)["dev_only"] is True


def test_a_dev_key_may_not_view(sandbox, make_api, definition, error):
    token = sandbox.add_campaign(definition)

    assert error(make_api(sandbox, kind="dev").view(token)) == (403, 12, "API_MISUSE")


def test_whether_a_dev_key_may_view_or_list_is_a_choice(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(contract=Contract(dev_key_view=None, dev_key_list="API_MISUSE"))
    token = sandbox.add_campaign(definition)
    dev = make_api(sandbox, kind="dev")

    assert dev.view(token).status_code == 200
    assert error(dev.list()) == (403, 12, "API_MISUSE")


def test_a_dev_key_may_list(sandbox, make_api):
    assert make_api(sandbox, kind="dev").list().status_code == 200


def test_list_is_a_bare_array_of_summaries_newest_first(api, sandbox, clock, definition):
    old = sandbox.add_campaign({**definition, "name": "old"})
    clock.advance(hours=1)
    new = sandbox.add_campaign({**definition, "name": "new"}, from_api=False)

    page = api.list().json()

    assert [item["campaign_token"] for item in page] == [new, old]
    assert all(set(item) == SUMMARY_KEYS for item in page)
    assert page[0] == {
        "campaign_token": new,
        "from_api": False,
        "dev_only": False,
        "created_date": "2030-01-01T13:00:00",
        "name": "new",
        "live": False,
    }


def test_list_gives_ten_campaigns_unless_asked_for_more(api, sandbox, definition):
    tokens = [sandbox.add_campaign(definition) for _ in range(12)]

    assert [item["campaign_token"] for item in api.list().json()] == tokens[:1:-1]
    assert len(api.list(limit=11).json()) == 11


def test_list_starts_at_from(api, sandbox, definition):
    tokens = [sandbox.add_campaign(definition) for _ in range(5)]

    page = api.list(**{"from": 3, "limit": 3}).json()

    assert [item["campaign_token"] for item in page] == [tokens[1], tokens[0]]


def test_a_list_limit_above_100_counts_as_100(api, sandbox, definition):
    for _ in range(101):
        sandbox.add_campaign(definition)

    assert len(api.list(limit=1000).json()) == 100


def test_a_list_limit_above_100_can_be_refused_instead(make_sandbox, make_api, error):
    api = make_api(make_sandbox(contract=Contract(list_limit_above_max="MALFORMED_PARAMETER")))

    assert api.list(limit=100).status_code == 200
    assert error(api.list(limit=101)) == (400, 31, "MALFORMED_PARAMETER")


def test_list_by_live_counts_complete_campaigns_as_live(api, sandbox, definition):
    draft = sandbox.add_campaign(definition)
    running = sandbox.add_campaign({**definition, "live": True})
    complete = sandbox.add_campaign({**definition, "live": True}, complete=True)

    assert [item["campaign_token"] for item in api.list(live="true").json()] == [complete, running]
    assert [item["campaign_token"] for item in api.list(live="false").json()] == [draft]


def test_list_by_live_counts_a_campaign_whose_push_time_has_passed_as_live(api, sandbox, clock, definition):
    soon = {**definition, "push_time": "2030-01-01T13:00:00"}
    draft = sandbox.add_campaign(soon)
    sent = sandbox.add_campaign({**soon, "live": True})
    clock.advance(hours=2)

    assert sandbox.is_complete(sent)
    assert [item["campaign_token"] for item in api.list(live="true").json()] == [sent]
    assert [item["campaign_token"] for item in api.list(live="false").json()] == [draft]


def test_list_by_live_counts_a_stopped_campaign_as_not_live(api, sandbox, definition):
    stopped = sandbox.add_campaign({**definition, "live": True})
    api.update(stopped, {"live": False})

    assert api.list(live="true").json() == []
    assert [item["campaign_token"] for item in api.list(live="false").json()] == [stopped]


def test_list_by_live_counts_a_campaign_stopped_after_it_was_sent_as_not_live(api, sandbox, definition):
    stopped = sandbox.add_campaign({**definition, "live": True, "push_time": "now"})
    api.update(stopped, {"live": False})

    assert sandbox.is_complete(stopped)
    assert api.list(live="true").json() == []
    assert [item["campaign_token"] for item in api.list(live="false").json()] == [stopped]


def test_list_without_a_filter_gives_every_campaign(api, sandbox, definition):
    for live in (True, False):
        for from_api in (True, False):
            sandbox.add_campaign({**definition, "live": live}, from_api=from_api)

    assert [(item["live"], item["from_api"]) for item in api.list().json()] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]


def test_both_filters_of_the_list_apply_at_once(api, sandbox, definition):
    tokens = {
        (live, from_api): sandbox.add_campaign({**definition, "live": live}, from_api=from_api)
        for live in (True, False)
        for from_api in (True, False)
    }

    page = api.list(live="true", from_api="false").json()

    assert [item["campaign_token"] for item in page] == [tokens[True, False]]


def test_from_and_limit_count_the_campaigns_the_filters_leave(api, sandbox, definition):
    live = []
    for _ in range(4):
        live.append(sandbox.add_campaign({**definition, "live": True}))
        sandbox.add_campaign(definition)

    page = api.list(**{"live": "true", "from": 1, "limit": 2}).json()

    assert [item["campaign_token"] for item in page] == [live[2], live[1]]


def test_list_by_origin(api, sandbox, definition):
    made_by_api = sandbox.add_campaign(definition)
    made_by_hand = sandbox.add_campaign(definition, from_api=False)

    assert [item["campaign_token"] for item in api.list(from_api="true").json()] == [made_by_api]
    assert [item["campaign_token"] for item in api.list(from_api="false").json()] == [made_by_hand]


@pytest.mark.parametrize("query", [{"limit": "many"}, {"limit": 0}, {"from": -1}, {"live": "True"}, {"from_api": "1"}])
def test_a_list_parameter_that_makes_no_sense_is_refused(api, error, query):
    assert error(api.list(**query)) == (400, 31, "MALFORMED_PARAMETER")


def test_apps_have_campaigns_of_their_own(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(apps=("ios", "android"))
    ios, android = make_api(sandbox, "ios"), make_api(sandbox, "android")
    token = ios.create(definition).json()["campaign_token"]

    assert error(android.view(token)) == (404, 20, "ROUTE_NOT_FOUND")
    assert error(android.update(token, {"live": True})) == (404, 20, "ROUTE_NOT_FOUND")
    assert android.list().json() == []
    assert [item["campaign_token"] for item in ios.list().json()] == [token]


def test_every_answer_carries_the_date_of_the_sandbox_clock(api):
    assert api.list().headers["Date"] == "Tue, 01 Jan 2030 12:00:00 GMT"
    assert api.view("0" * 32).headers["Date"] == "Tue, 01 Jan 2030 12:00:00 GMT"
