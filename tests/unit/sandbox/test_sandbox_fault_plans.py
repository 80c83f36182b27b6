"""Which request gets which fault, how faults are written, and that a seed repeats them."""

from __future__ import annotations

import json

import pytest

from airflow_batch.sandbox import Fault, FaultPlan


def test_faults_are_used_up_in_order(api, sandbox):
    sandbox.inject(Fault("answer", status=500), Fault("answer", status=503, times=2))

    assert [api.list().status_code for _ in range(4)] == [500, 503, 503, 200]


def test_a_fault_waits_for_its_operation(api, sandbox, definition):
    sandbox.inject(Fault("answer", "update", status=500))
    token = sandbox.add_campaign(definition)

    assert api.list().status_code == 200
    assert api.update(token, {"live": True}).status_code == 500


def test_a_fault_can_be_for_one_app_or_one_campaign(make_sandbox, make_api, definition):
    sandbox = make_sandbox(apps=("ios", "android"))
    android = make_api(sandbox, "android")
    first, second = (sandbox.add_campaign(definition, app="android") for _ in range(2))
    sandbox.inject(Fault("answer", status=500, app="ios"), Fault("answer", status=503, token=second))

    assert android.view(first).status_code == 200
    assert android.view(second).status_code == 503
    assert make_api(sandbox, "ios").list().status_code == 500


def test_a_fault_without_a_number_of_times_stays_until_it_is_cleared(api, sandbox):
    sandbox.inject(Fault("answer", status=503, times=None))
    assert [api.list().status_code for _ in range(3)] == [503, 503, 503]

    sandbox.clear_faults()

    assert api.list().status_code == 200


def test_the_request_log_names_the_fault(api, sandbox):
    sandbox.inject("503", "html")
    for _ in range(3):
        api.list()

    assert [record.fault for record in sandbox.requests] == ["answer 503", "html", None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("429", Fault("answer", status=429)),
        ("update:429;retry-after=6", Fault("answer", "update", status=429, headers={"retry-after": "6"})),
        ("SERVER_ERROR;applied=true", Fault("answer", error="SERVER_ERROR", applied=True)),
        ("create:reset_after;times=all", Fault("reset_after", "create", times=None)),
        ("late;seconds=3;apply_after=0.5;times=2", Fault("late", seconds=3.0, apply_after=0.5, times=2)),
        ("lag;calls=2", Fault("lag", calls=2)),
        ("redirect;location=http://127.0.0.1:1{path}", Fault("redirect", location="http://127.0.0.1:1{path}")),
        ("list:drip;part=body;interval=0.1", Fault("drip", "list", part="body", interval=0.1)),
        ("200;body=a=b", Fault("answer", status=200, body="a=b")),
    ],
)
def test_a_fault_is_written_as_text(text, fault):
    assert Fault.from_text(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "explode",
        "remove:503",
        "answer",
        "199",
        "503;tiems=2",
        "503;times",
        "503;times=0",
        "503;times=two",
        "503;applied=maybe",
        "delay",
        "lag",
        "view:lag;calls=1",
        "late;applied=true",
        "drip;part=head",
        "503;content-length=3",
        "503;x-a=1\r\nx-b: 2",
    ],
)
def test_a_fault_that_cannot_be_carried_out_is_refused(text):
    with pytest.raises(ValueError, match=r"fault|invalid literal"):
        Fault.from_text(text)


def test_a_plan_is_read_from_json(make_sandbox, make_api):
    script = [{"kind": "answer", "status": 429, "headers": {"Retry-After": 6}, "body": {"a": 1}}, "list:503"]
    api = make_api(make_sandbox(faults=FaultPlan.from_json(json.dumps(script))))

    first, second = api.list(), api.list()

    assert (first.status_code, first.headers["Retry-After"], first.json()) == (429, "6", {"a": 1})
    assert second.status_code == 503


@pytest.mark.parametrize(
    "plan", ["{", "3", '{"chance": {}}', '[{"status": 3}]', '[{"kind": "html", "times": "two"}]', '["explode"]']
)
def test_a_plan_that_cannot_be_read_is_refused(plan):
    with pytest.raises(ValueError, match=r"."):
        FaultPlan.from_json(plan)


@pytest.mark.parametrize("chances", [{"503": 1.1}, {"503": -0.1}, {"503": 0.6, "html": 0.6}, {"explode": 0.1}])
def test_chances_add_up_to_one_at_most(chances):
    with pytest.raises(ValueError, match=r"chances|fault"):
        FaultPlan(chances=chances)


def test_a_chance_of_one_meets_every_request_that_fits(make_sandbox, make_api, definition):
    sandbox = make_sandbox(faults=FaultPlan(chances={"list:503": 1.0}))
    api = make_api(sandbox)

    assert [api.list().status_code for _ in range(3)] == [503, 503, 503]
    assert api.create(definition).status_code == 201


def run(sandbox, api):
    """Send forty requests and return the log."""
    token = api.create().json().get("campaign_token", "0" * 32)
    for number in range(39):
        api.update(token, {"name": f"Campaign {number}"})
    return sandbox.requests


CHANCES = {"update:503": 0.2, "html;status=500": 0.2, "answer;status=429;applied=true": 0.2}


def test_the_same_seed_and_the_same_requests_give_the_same_log(make_sandbox, make_api):
    plan = FaultPlan(chances=CHANCES)
    logs = [run(sandbox, make_api(sandbox)) for sandbox in (make_sandbox(seed=7, faults=plan) for _ in range(2))]

    assert logs[0] == logs[1]
    assert {record.fault for record in logs[0]} == {None, "answer 503", "html", "answer 429"}


def test_the_same_seed_and_the_same_requests_give_the_same_bytes_of_log(make_sandbox, make_api):
    plan = FaultPlan(script=[Fault("answer", "create", status=503, applied=True)], chances=CHANCES)
    sandboxes = [make_sandbox(seed=7, faults=plan, rate=1, burst=30, retry_after="http-date") for _ in range(2)]
    logs = ["\n".join(json.dumps(record.as_dict()) for record in run(one, make_api(one))) for one in sandboxes]

    assert logs[0].encode() == logs[1].encode()
    assert '"TOO_MANY_REQUESTS"' in logs[0]


def test_another_seed_gives_another_log(make_sandbox, make_api):
    plan = FaultPlan(chances=CHANCES)
    logs = [run(sandbox, make_api(sandbox)) for sandbox in (make_sandbox(seed=seed, faults=plan) for seed in (7, 8))]

    assert [record.fault for record in logs[0]] != [record.fault for record in logs[1]]
    assert logs[0][0].campaign_token != logs[1][0].campaign_token


def test_a_script_does_not_move_the_random_faults_after_it(make_sandbox, make_api):
    plain, scripted = (make_sandbox(seed=7, faults=FaultPlan(chances=CHANCES)) for _ in range(2))
    scripted.inject(Fault("answer", status=503, times=5))
    for sandbox in (plain, scripted):
        api = make_api(sandbox)
        for _ in range(30):
            api.list()

    assert [record.fault for record in plain.requests][5:] == [record.fault for record in scripted.requests][5:]
