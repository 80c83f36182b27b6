"""Which request gets which fault, how faults are written, and that a seed repeats them."""

from __future__ import annotations

import json

import pytest

from airflow_batch.sandbox import Fault, FaultPlan


def statuses(api, count):
    return [api.list().status_code for _ in range(count)]


def test_faults_are_used_up_in_order_and_the_request_log_names_them(api, sandbox):
    sandbox.inject(Fault("answer", status=500), Fault("answer", status=503, times=2), "html")

    assert statuses(api, 5) == [500, 503, 503, 502, 200]
    assert [record.fault for record in sandbox.requests] == ["answer 500", "answer 503", "answer 503", "html", None]


def test_a_fault_can_be_for_one_operation_one_app_or_one_campaign(make_sandbox, make_api, definition):
    sandbox = make_sandbox(apps=("ios", "android"))
    ios, android = make_api(sandbox, "ios"), make_api(sandbox, "android")
    first, second = (sandbox.add_campaign(definition, app="android") for _ in range(2))
    sandbox.inject(Fault("answer", status=500, app="ios"), Fault("answer", status=503, token=second))
    sandbox.inject(Fault("answer", "stats", status=418))

    assert android.view(first).status_code == 200
    assert android.view(second).status_code == 503
    assert ios.list().status_code == 500
    assert [android.stats(first).status_code for _ in range(2)] == [418, 200]


def test_a_fault_without_a_number_of_times_stays_until_it_is_cleared(api, sandbox):
    sandbox.inject(Fault("answer", status=503, times=None))
    assert statuses(api, 3) == [503, 503, 503]

    sandbox.clear_faults()

    assert statuses(api, 1) == [200]


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
def test_a_fault_can_be_written_as_text(text, fault):
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
def test_a_text_that_is_not_a_possible_fault_is_refused(text):
    with pytest.raises(ValueError, match=r"fault|invalid literal"):
        Fault.from_text(text)


def test_a_plan_is_read_from_json(make_sandbox, make_api):
    script = [{"kind": "answer", "status": 429, "headers": {"Retry-After": 6}, "body": {"a": 1}}, "list:503"]
    api = make_api(make_sandbox(faults=FaultPlan.from_json(json.dumps(script))))

    first, second = api.list(), api.list()

    assert (first.status_code, first.headers["Retry-After"], first.json()) == (429, "6", {"a": 1})
    assert second.status_code == 503


@pytest.mark.parametrize(
    "plan",
    [
        "{",
        "3",
        "[5]",
        "[" * 100_000,
        '{"chance": {}}',
        '{"script": 5}',
        '{"chances": [1]}',
        '{"chances": {"429": "x"}}',
        '{"chances": {"429": NaN}}',
        '[{"status": 3}]',
        '[{"kind": "html", "times": "two"}]',
        '[{"kind": "delay", "delay": NaN}]',
        '[{"kind": "drip", "interval": -1}]',
        '[{"kind": "silence", "seconds": Infinity}]',
        '[{"kind": "answer", "status": 429, "headers": {"Retry-After": "\u20ac"}}]',
        '["explode"]',
    ],
    ids=lambda plan: plan[:60],
)
def test_a_fault_file_with_a_plan_that_is_not_possible_is_refused(plan):
    with pytest.raises(ValueError, match=r"fault|chances|Expecting|convert"):
        FaultPlan.from_json(plan)


@pytest.mark.parametrize("chances", [{"503": 1.1}, {"503": -0.1}, {"503": 0.6, "html": 0.6}, {"explode": 0.1}])
def test_chances_that_are_negative_or_add_up_to_more_than_one_are_refused(chances):
    with pytest.raises(ValueError, match=r"chances|fault"):
        FaultPlan(chances=chances)


def test_a_fault_with_a_chance_of_one_is_given_to_every_request_that_fits(make_sandbox, make_api, definition):
    api = make_api(make_sandbox(faults=FaultPlan(chances={"list:503": 1.0})))

    assert statuses(api, 3) == [503, 503, 503]
    assert api.create(definition).status_code == 201


CHANCES = {"update:503": 0.2, "html;status=500": 0.2, "answer;status=429;applied=true": 0.2}


def test_the_same_seed_and_requests_give_the_same_log_and_another_seed_gives_another(make_sandbox, make_api):
    def log_of(seed):
        sandbox = make_sandbox(seed=seed, faults=FaultPlan(chances=CHANCES))
        api = make_api(sandbox)
        token = api.create().json().get("campaign_token", "0" * 32)
        for number in range(39):
            api.update(token, {"name": f"Campaign {number}"})
        return sandbox.requests

    first, second, other = log_of(7), log_of(7), log_of(8)

    assert first == second
    assert {record.fault for record in first} == {None, "answer 503", "html", "answer 429"}
    assert [record.fault for record in first] != [record.fault for record in other]
    assert first[0].campaign_token != other[0].campaign_token


def test_a_script_does_not_change_the_random_faults_after_it(make_sandbox, make_api):
    plain, scripted = (make_sandbox(seed=7, faults=FaultPlan(chances=CHANCES)) for _ in range(2))
    scripted.inject(Fault("answer", status=503, times=5))
    for sandbox in (plain, scripted):
        statuses(make_api(sandbox), 30)

    assert [record.fault for record in plain.requests][5:] == [record.fault for record in scripted.requests][5:]
