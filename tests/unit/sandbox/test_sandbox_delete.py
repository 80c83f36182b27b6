"""Delete: the campaign is gone, whatever it was, and faults hide whether it is."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_batch.sandbox import Contract, Fault, FaultPlan

GONE = (404, 20, "ROUTE_NOT_FOUND")
DROPPED = requests.exceptions.ConnectionError


@pytest.fixture
def token(sandbox, definition):
    return sandbox.add_campaign(definition)


def test_delete_answers_200_with_an_empty_object(api, token):
    response = api.delete(token)

    assert (response.status_code, response.content) == (200, b"{}")


def test_delete_can_answer_without_a_body(make_sandbox, make_api, definition):
    sandbox = make_sandbox(contract=Contract(delete_success_body=""))
    response = make_api(sandbox).delete(sandbox.add_campaign(definition))

    assert (response.status_code, response.content) == (200, b"")


def test_a_deleted_campaign_is_gone_from_every_operation(api, sandbox, token, definition, error):
    other = sandbox.add_campaign(definition)

    api.delete(token)

    assert error(api.view(token)) == GONE
    assert error(api.stats(token)) == GONE
    assert error(api.update(token, {"live": True})) == GONE
    assert [item["campaign_token"] for item in api.list().json()] == [other]
    assert sandbox.tokens() == (other,)
    with pytest.raises(KeyError):
        sandbox.campaign(token)


def test_a_second_delete_is_404_20(api, token, error):
    api.delete(token)

    assert error(api.delete(token)) == GONE


def test_a_campaign_of_another_app_cannot_be_deleted(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(apps=("ios", "android"))
    token = sandbox.add_campaign(definition, app="ios")

    assert error(make_api(sandbox, "android").delete(token)) == GONE
    assert sandbox.tokens() == (token,)


@pytest.mark.parametrize("options", [{"live": False}, {"live": True}, {"live": True, "push_time": "now"}], ids=str)
def test_a_campaign_can_be_deleted_in_any_state(api, sandbox, definition, options):
    assert api.delete(sandbox.add_campaign({**definition, **options})).status_code == 200
    assert sandbox.tokens() == ()


def test_a_dev_key_may_delete(sandbox, make_api, token):
    assert make_api(sandbox, kind="dev").delete(token).status_code == 200
    assert sandbox.tokens() == ()


def test_a_campaign_made_in_the_dashboard_can_be_deleted(api, sandbox, definition):
    assert api.delete(sandbox.add_campaign(definition, from_api=False)).status_code == 200


def test_whether_a_dashboard_campaign_can_be_deleted_is_a_choice(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(contract=Contract(dashboard_delete="API_MISUSE"))
    token = sandbox.add_campaign(definition, from_api=False)

    assert error(make_api(sandbox).delete(token)) == (403, 12, "API_MISUSE")
    assert sandbox.tokens() == (token,)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"live": "yes"}'])
def test_a_body_sent_with_a_delete_is_not_read(make_sandbox, make_api, definition, body):
    sandbox = make_sandbox(contract=Contract(content_type="MALFORMED_JSON_BODY"))
    token = sandbox.add_campaign(definition)

    assert make_api(sandbox).delete(token, data=body).status_code == 200


def test_delete_needs_the_rest_key(api, sandbox, token, error):
    assert error(api.delete(token, headers={})) == (401, 10, "AUTHENTICATION_INVALID")
    assert sandbox.tokens() == (token,)


def test_delete_is_throttled(make_sandbox, make_api, definition, error):
    sandbox = make_sandbox(rate=1)
    api, token = make_api(sandbox), sandbox.add_campaign(definition)
    api.list()

    assert error(api.delete(token)) == (429, 60, "TOO_MANY_REQUESTS")
    assert sandbox.tokens() == (token,)


def test_a_campaign_added_after_a_delete_is_listed_as_the_newest(api, sandbox, definition):
    first, second = (sandbox.add_campaign(definition) for _ in range(2))
    api.delete(first)

    third = sandbox.add_campaign(definition)

    assert [item["campaign_token"] for item in api.list().json()] == [third, second]


def test_a_record_of_a_delete_holds_the_token_though_it_is_gone(api, sandbox, token):
    api.delete(token)
    api.delete(token)

    assert [
        (record.operation, record.path, record.campaign_token, record.status, record.applied)
        for record in sandbox.requests
    ] == [
        ("delete", f"/1.1/APP_KEY/campaigns/delete/{token}", token, 200, True),
        ("delete", f"/1.1/APP_KEY/campaigns/delete/{token}", token, 404, False),
    ]


@pytest.mark.parametrize(("kind", "applied"), [("reset_before", False), ("reset_after", True)])
def test_a_delete_can_be_reset_before_or_after_it_is_applied(api, sandbox, token, kind, applied):
    sandbox.inject(Fault(kind, "delete"))

    with pytest.raises(DROPPED):
        api.delete(token)

    assert (sandbox.tokens() == ()) is applied
    assert (sandbox.requests[-1].applied, sandbox.requests[-1].campaign_token) == (applied, token)


def test_a_late_delete_is_applied_after_the_client_gave_up(api, sandbox, token):
    sandbox.inject(Fault("late", "delete", apply_after=0.2))

    with pytest.raises(requests.exceptions.ReadTimeout):
        api.delete(token, timeout=0.1)

    assert sandbox.tokens() == (token,)
    end = time.monotonic() + 3
    while not sandbox.requests[-1].applied and time.monotonic() < end:
        time.sleep(0.005)
    assert sandbox.requests[-1].applied
    assert sandbox.tokens() == ()


@pytest.mark.parametrize("kind", ["silence", "truncate"])
def test_a_fault_can_hide_that_a_delete_was_applied(api, sandbox, token, kind):
    sandbox.inject(Fault(kind, "delete", seconds=0.05, applied=True))

    with pytest.raises((DROPPED, requests.exceptions.ChunkedEncodingError)):
        api.delete(token)

    assert sandbox.tokens() == ()


@pytest.mark.parametrize("fault", ["delay;delay=0.01", "drip;interval=0.001"])
def test_a_slow_answer_to_a_delete_is_the_usual_one(api, sandbox, token, fault):
    sandbox.inject(f"delete:{fault}")

    response = api.delete(token)

    assert (response.status_code, response.content) == (200, b"{}")
    assert sandbox.tokens() == ()


@pytest.mark.parametrize(
    ("fault", "status"), [("429", 429), ("API_MISUSE", 403), ("html", 502), ("redirect", 302), ("echo", 401)]
)
def test_a_delete_can_be_refused_by_a_fault(api, sandbox, token, fault, status):
    sandbox.inject(f"delete:{fault}")

    assert api.list().status_code == 200
    assert api.delete(token).status_code == status
    assert sandbox.tokens() == (token,)


def test_a_lag_leaves_a_delete_alone(make_sandbox, make_api, definition):
    sandbox = make_sandbox(faults=FaultPlan(chances={"lag;calls=1": 1.0}))
    token = sandbox.add_campaign(definition)

    assert make_api(sandbox).delete(token).status_code == 200
    assert sandbox.requests[-1].fault is None
