"""What an approver is shown, what is kept of it, and when a change is refused for not being that."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from airflow_batch._campaigns.approval import (
    Approval,
    check_approved,
    digest_of,
    fingerprints,
    read_approval,
    record_of,
    shown_now,
)
from airflow_batch._campaigns.approval_text import approval_text, code, warnings_of
from airflow_batch._campaigns.history import History
from airflow_batch._campaigns.plan import Done, Refuse, Send, Situation, plan_change
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import Clocks
from airflow_batch.exceptions import BatchChangeRefusedError

TOKEN, NOW = "d9d5e5a52ca08110d4893af3254ec21b", datetime(2026, 6, 1, 12, tzinfo=UTC)
SEEN = {
    "campaign_token": TOKEN,
    "from_api": True,
    "dev_only": False,
    "created_date": "2026-05-01T00:00:00",
    "name": "Summer sale",
    "live": False,
    "push_time": "2026-07-01T09:00:00",
    "time_to_live": 24,
    "gcm_collapse_key": "default",
    "labels": ["SALE", "VIP"],
    "targeting": {"segments": ["DORMANT", "NEW"]},
    "messages": [{"language": "en", "title": "Sale", "body": "Hi"}, {"language": "fr", "body": "Salut"}],
}
PAYLOAD = {"messages": [{"language": "en", "body": "New"}], "live": True}
PARIS = ZoneInfo("Europe/Paris")


def result_of(seen=SEEN, payload=None, *, app="ios", approved=True, **changes):
    """The result of an approval, as it comes out of XCom."""
    record = record_of(shown_now(TOKEN, app, seen, payload, NOW), approved=approved, at=NOW, by="Ann")
    return json.loads(json.dumps({"campaign_token": TOKEN, "app": app, "approval": {**record, **changes}}))


def refusal(approval, seen=SEEN, payload=None):
    """The text of the refusal; None where it is as approved."""
    try:
        check_approved(approval, TOKEN, seen, payload or {})
    except BatchChangeRefusedError as error:
        return str(error)
    return None


def read(**arguments):
    return read_approval(result_of(**arguments), "ios")


def plan(seen=SEEN, approval=None, live=True, parameters=None, **changes):
    request = ChangeRequest(token=TOKEN, live=live, parameters=parameters or {}, approval=approval, **changes)
    return plan_change(Situation(request=request, seen=seen, history=History(began=NOW), clocks=Clocks(NOW, NOW)))


# --------------------------------------------------------------------------------------------------- what is compared


def test_a_campaign_as_it_was_shown_is_approved():
    assert refusal(read()) is None


@pytest.mark.parametrize(
    "same",
    [
        {"live": True},
        {"dev_only": True, "created_date": "2020-01-01T00:00:00"},
        {"push_time": "2026-07-01T09:00:00Z"},
        {"name": " Summer sale "},
        {"time_to_live": "24"},
        {"labels": ["VIP", "SALE"]},
        {"gcm_collapse_key": {"enabled": True, "key": "default"}},
        {"time_to_live": "24.0"},
        {"recurrence": None},
        {"recurrence": []},
        {"landing": {}},
        {"deeplink": ""},
        {"wp_template": False},
        {"trigger": None},
        {"targeting": {"segments": ["NEW", "DORMANT"], "regions": [], "attributes": None}},
        {"messages": [SEEN["messages"][1], {**SEEN["messages"][0], "deeplink": None, "media": {}}]},
    ],
)
def test_live_what_only_batch_sets_and_another_form_of_the_same_value_are_no_change(same):
    assert refusal(read(), {**SEEN, **same}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages", [{"language": "en", "title": "Sale", "body": "Hi!"}, {"language": "fr", "body": "Salut"}]),
        ("messages", SEEN["messages"][:1]),
        ("push_time", "2026-07-01T09:00:01"),
        ("name", "Winter sale"),
        ("targeting", {"segments": ["DORMANT"]}),
        ("time_to_live", 25),
        ("labels", None),
        ("media", {"icon": "x"}),
        ("trigger", {}),
        ("trigger", []),
        ("priority", True),
        ("labels", []),
        ("time_to_live", "25.0"),
        ("time_to_live", True),
        ("targeting", {"segments": []}),
        ("targeting", None),
        ("messages", [{"language": "en", "title": "", "body": "Hi"}, {"language": "fr", "body": "Salut"}]),
    ],
)
def test_a_change_is_refused_and_named(name, value):
    why = refusal(read(), {**SEEN, name: value})
    assert f"neither switched on nor updated: {name} changed since the approval" in why


def change(name, before, now):
    """The refusal of a campaign that was approved with one value of a parameter, and has another now."""
    return refusal(read(seen={**SEEN, name: before}), {**SEEN, name: now})


def test_true_for_false_is_a_change():
    assert "skip_media_check changed" in change("skip_media_check", False, True)
    assert "wp_template changed" in change("wp_template", "T", False)


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("targeting", {"attributes": {"age": {"$between": [18, 30]}}}, {"attributes": {"age": {"$between": [30, 18]}}}),
        ("targeting", {"near": [[48.85, 2.35], [1, 2]]}, {"near": [[1, 2], [48.85, 2.35]]}),
        ("targeting", {"near": [[48.85, 2.35]]}, {"near": [[2.35, 48.85]]}),
        ("custom_payload", {"steps": ["a", "b"]}, {"steps": ["b", "a"]}),
        ("landing", {"buttons": [{"label": "yes"}, {"label": "no"}]}, {"buttons": [{"label": "no"}, {"label": "yes"}]}),
        (
            "messages",
            [{"language": "en", "body": "A", "buttons": ["x", "y"]}],
            [{"language": "en", "body": "A", "buttons": ["y", "x"]}],
        ),
        ("messages", {"a": [{"body": "A"}], "b": [{"body": "B"}]}, {"a": [{"body": "B"}], "b": [{"body": "A"}]}),
    ],
)
def test_order_counts_where_it_may_have_a_meaning(name, before, now):
    assert f"{name} changed" in change(name, before, now)


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("targeting", {"attributes": {"city": {"$eq": ""}}}, {"attributes": {"city": {"$ne": ""}}}),
        ("targeting", {"attributes": {"city": {"$eq": False}}}, {"attributes": {"city": {}}}),
        ("targeting", {"attributes": {"city": None}}, None),
        ("custom_payload", {"end_date": "2099-01-01T00:00:00Z"}, {"end_date": "2099-01-01T00:00:00"}),
        ("custom_payload", {"coupon": ""}, {"coupon": None}),
    ],
)
def test_in_a_condition_and_in_the_payload_of_the_app_every_form_counts(name, before, now):
    assert f"{name} changed" in change(name, before, now)


def test_an_object_of_nothing_but_none_is_none():
    assert change("targeting", {"segments": [], "regions": None}, None) is None
    assert change("media", None, {"icon": {"url": None}}) is None


def test_the_messages_of_a_test_may_be_shown_in_another_order_of_languages():
    version = SEEN["messages"]
    assert change("messages", {"a": version, "b": version}, {"b": version[::-1], "a": version}) is None


def test_all_that_changed_is_named():
    assert "labels, name changed" in refusal(read(), {**SEEN, "name": "Other", "labels": ["X"]})


def test_one_text_is_never_taken_for_another_because_it_seems_like_a_number():
    approval = read(seen={**SEEN, "name": "050"})
    assert "name changed" in refusal(approval, {**SEEN, "name": "50"})
    assert "name changed" in refusal(read(seen={**SEEN, "name": "50"}), {**SEEN, "name": "50.0"})


def test_a_rejection_another_token_and_another_app_approve_nothing():
    assert "no person has approved it" in refusal(read(approved=False))
    assert "the approval is of campaign 'other'" in refusal(read(campaign_token="other"))
    assert "the approval is of app 'android'" in refusal(read_approval(result_of(app="android"), "ios"))
    assert "the approval is of app None" in refusal(read_approval(result_of(app=None), "ios"))


@pytest.mark.parametrize(
    "broken",
    [None, "yes", [], {}, {"approved": True}, {**result_of()["approval"], "answered_at": "today"},
     {**result_of()["approval"], "answered_at": "0001-01-01T00:00:00+14:00"}]
    + [{name: value for name, value in result_of()["approval"].items() if name != gone} for gone in
       ("approved", "campaign_token", "app", "answered_at", "with_payload", "digest", "parameters")],
)  # fmt: skip
def test_an_approval_that_cannot_be_read_approves_nothing(broken):
    approval = read_approval({**result_of(), "approval": broken}, "ios")
    assert "the approval in the given result cannot be read" in refusal(approval)


def test_fingerprints_that_are_not_those_of_the_digest_approve_nothing():
    edited = {**SEEN, "messages": [{"language": "en", "body": "Edited"}]}
    approval = read(parameters=fingerprints(edited))
    assert "cannot be read" in refusal(approval, edited)


def test_the_record_itself_is_an_approval():
    record = result_of()["approval"]
    assert refusal(read_approval(record, "ios")) is None
    assert "name changed" in refusal(read_approval(record, "ios"), {**SEEN, "name": "Other"})
    assert "no person has approved it" in refusal(read_approval({**record, "approved": False}, "ios"))


def test_what_is_no_result_of_an_approval_holds_none():
    assert read_approval(TOKEN, "ios") is None
    assert read_approval({"campaign_token": TOKEN, "app": "ios"}, "ios") is None


def test_the_digest_is_that_of_the_fingerprints():
    assert result_of()["approval"]["digest"] == digest_of(fingerprints(SEEN))
    assert digest_of(fingerprints(SEEN)) != digest_of(fingerprints({**SEEN, "name": "Other"}))


# ----------------------------------------------------------------------------------------------------------- payloads


def test_an_update_with_the_approved_payload_goes_out():
    assert refusal(read(payload=PAYLOAD), payload=PAYLOAD) is None


def test_another_payload_is_refused_and_so_is_a_campaign_that_has_changed_beside_it():
    approval = read(payload=PAYLOAD)
    assert "not as approved: messages" in refusal(approval, payload={**PAYLOAD, "messages": SEEN["messages"]})
    assert "not as approved: labels" in refusal(approval, payload={**PAYLOAD, "labels": ["X"]})
    assert "not as approved: time_to_live" in refusal(approval, {**SEEN, "time_to_live": 1}, PAYLOAD)


def test_what_the_payload_replaces_anyway_may_have_changed():
    assert refusal(read(payload=PAYLOAD), {**SEEN, "messages": [{"language": "en", "body": "X"}]}, PAYLOAD) is None


def test_a_payload_that_goes_live_is_another_one_than_a_payload_that_does_not():
    draft = {"messages": PAYLOAD["messages"]}
    assert "not as approved: live" in refusal(read(payload=draft), payload=PAYLOAD)
    assert "not as approved: live" in refusal(read(payload=PAYLOAD), payload=draft)


def test_a_switch_after_the_approved_update_finds_the_payload_in_place():
    approval = read(payload=PAYLOAD)
    assert "messages changed" in refusal(approval)
    assert refusal(approval, {**SEEN, "messages": PAYLOAD["messages"]}) is None


def test_a_payload_with_a_push_time_replaces_the_local_one():
    seen = {**{k: v for k, v in SEEN.items() if k != "push_time"}, "local_push_time": "2026-07-01T09:00:00"}
    payload = {"push_time": "now"}
    assert refusal(read(seen=seen, payload=payload), seen, payload) is None
    assert "local_push_time" not in fingerprints(seen, payload)


# ----------------------------------------------------------------------------------------------------------- the plan


def test_the_plan_refuses_an_on_an_update_and_an_open_window_that_are_not_as_approved():
    edited = {**SEEN, "messages": [{"language": "en", "body": "Edited"}]}

    class Open:
        def is_live_at(self, moment):
            return True

    for change in ({"live": True}, {"live": Open()}, {"live": None, "parameters": {"labels": ["X"]}}):
        step = plan(edited, read(), **change)
        assert isinstance(step, Refuse), change
        assert "approv" in str(step.error)
    assert isinstance(plan(SEEN, read()), Send)


def test_a_campaign_that_is_live_with_another_text_is_no_success():
    edited = {**SEEN, "live": True, "messages": [{"language": "en", "body": "Edited"}]}
    assert isinstance(plan(edited), Done)
    assert isinstance(plan(edited, read()), Refuse)


def test_a_campaign_that_cannot_be_read_is_not_switched_on_with_its_definition_either():
    step = plan(None, read(), definition={"name": "Summer sale", "messages": SEEN["messages"]})
    assert isinstance(step, Refuse)
    assert "cannot be read" in str(step.error)
    assert isinstance(plan(SEEN, read(), read=False), Send)  # what was read counts


@pytest.mark.parametrize("approval", [Approval(refusal="no person has approved it"), read(), read(approved=False)])
def test_a_stop_needs_no_approval(approval):
    edited = {**SEEN, "live": True, "messages": [{"language": "en", "body": "Edited"}]}
    assert isinstance(plan(edited, approval, live=False), Send)
    assert isinstance(plan(None, approval, live=False), Send)


STOP_AND_LABELS = {"live": False, "labels": ["X"]}


def stop_with(approval, seen=None):
    """The step of an update that stops a campaign and sets labels."""
    step = plan({**SEEN, "live": True} if seen is None else seen, approval, live=None, parameters=STOP_AND_LABELS)
    assert isinstance(step, Send)
    assert step.payloads[-1] == step.desired
    return step


def test_a_stop_sends_the_approved_payload_whether_or_not_the_approved_one_stops():
    for payload in (STOP_AND_LABELS, {"labels": ["X"]}, {"live": True, "labels": ["X"]}):
        step = stop_with(read(payload=payload))
        assert step.desired == STOP_AND_LABELS
        assert step.error is None


@pytest.mark.parametrize(
    "approval", [read(), read(payload={"labels": ["Y"]}), read(payload=STOP_AND_LABELS, approved=False)]
)
def test_a_stop_goes_through_without_the_parameters_that_are_not_as_approved(approval):
    step = stop_with(approval)
    assert step.desired == {"live": False}
    assert step.payloads[0]["labels"] == SEEN["labels"]
    assert "is stopped, but this task does not set labels: " in str(step.error)


def test_a_stop_with_parameters_of_a_campaign_that_cannot_be_read_sends_the_stop_alone():
    request = ChangeRequest(token=TOKEN, parameters=STOP_AND_LABELS, approval=read(payload=STOP_AND_LABELS))
    step = plan_change(Situation(request=request, seen=None, history=History(began=NOW), clocks=Clocks(NOW, NOW)))
    assert step.payloads == ({"live": False},)


def test_a_campaign_that_is_stopped_already_gets_no_parameters_that_are_not_as_approved():
    step = plan(SEEN, read(), live=None, parameters=STOP_AND_LABELS)
    assert isinstance(step, Done)
    assert "does not set labels: not as approved: labels" in str(step.error)


# --------------------------------------------------------------------------------------------------- what is shown


def text(seen=SEEN, payload=None, *, zone=PARIS, warnings=(), app="ios"):
    return approval_text(token=TOKEN, app=app, seen=seen, payload=payload, zone=zone, warnings=list(warnings))


def test_the_text_shows_name_app_token_times_messages_targeting_labels_and_all_others():
    shown = text({**SEEN, "deeplink": "myapp://x", "media": {"icon": "i"}}, warnings=["Take care"])
    for part in (
        *("`Summer sale`", "`ios`", f"`{TOKEN}`", "`2026-07-01 09:00:00 UTC` (`2026-07-01 11:00:00 Europe/Paris`)"),
        *("**title**: `Sale`", "**body**: `Salut`", "`SALE`, `VIP`", '`{"segments": ["DORMANT", "NEW"]}`'),
        *("`myapp://x`", '**media**: `{"icon": "i"}`', "**Warning:** `Take care`", "**time\\_to\\_live**: `24`"),
    ):
        assert part in shown


def test_every_parameter_that_is_compared_is_shown():
    for name in fingerprints(SEEN):
        other = {**SEEN, name: {"another": "value"} if name in ("targeting", "messages") else ["other"]}
        assert text(other) != text(SEEN), name


def test_each_version_of_a_test_is_shown():
    shown = text({**SEEN, "messages": {"a": SEEN["messages"], "b": [{"language": "de", "body": "Hallo"}]}})
    assert shown.index("**Version** `a`") < shown.index("`Salut`") < shown.index("**Version** `b`")
    assert "    - **body**: `Hallo`" in shown


def test_the_times_of_other_campaigns():
    local = {**{k: v for k, v in SEEN.items() if k != "push_time"}, "local_push_time": "2026-07-01T09:00:00"}
    assert "`2026-07-01T09:00:00` in the time zone of each device, from `2026-06-30 19:00:00 UTC`" in text(local)
    assert "at once, when the campaign is updated" in text(payload={"push_time": "now"})
    assert "`2026-07-01 09:00:00 UTC`\n" in text(zone=ZoneInfo("UTC"))
    assert '**recurrence**: `{"repeat_unit": "DAILY"}`' in text({**SEEN, "recurrence": {"repeat_unit": "DAILY"}})
    assert "**Trigger:** `{}`" in text({**SEEN, "trigger": {}})


def test_the_text_shows_the_campaign_with_the_payload_and_the_differences():
    shown = text(payload=PAYLOAD)
    assert shown.index("**body**: `New`") < shown.index("Changes by the payload")
    assert "- **live**\n  - now: `false`\n  - then: `true`" in shown


def test_the_text_is_the_same_for_the_same_campaign():
    assert text() == text(json.loads(json.dumps(SEEN)))


@pytest.mark.parametrize(
    "hostile",
    ["`", "``` a ``", "a\n\n# b", "<img src=x>", "a | b", "[a](b)", "- x", " ", "\u202eabc", "x\0y", "\ud800"],
)
def test_a_text_of_a_campaign_stays_within_one_code_span_on_one_line(hostile):
    span = code(hostile)
    fence = span[: len(span) - len(span.lstrip("`"))]
    inside = span[len(fence) : -len(fence)]
    assert span.endswith(fence)
    assert "\n" not in span
    assert fence not in [run for run in inside.replace(" ", "\0").split("\0") if set(run) == {"`"}]
    assert not inside.startswith("`")
    assert not inside.endswith("`")
    assert "\u202e" not in span
    assert "\0" not in span


@pytest.mark.parametrize("letter", "\u3164\u115f\u1160\uffa0\u2800\u034f\u17b4\u180b\ufe00\ufe0f\U000e0100\u2028\u2029")
def test_what_shows_nothing_is_written_out_wherever_it_stands(letter):
    number = f"\\u{ord(letter):04x}"
    assert code(f"ab{letter}") == f"`ab{number}`"
    if letter not in "\u2028\u2029":
        assert code(f"a{letter}b") == f"`a{number}b`"


@pytest.mark.parametrize("emoji", ["❤\ufe0f", "1\ufe0f\u20e3", "‼\ufe0f", "🏳\ufe0f\u200d🌈", "©\ufe0e"])
def test_emoji_are_shown_as_they_are(emoji):
    assert code(f"Sale {emoji}") == f"`Sale {emoji}`"


def test_names_of_parameters_from_batch_are_escaped_too():
    assert "- ``<b>` a``: `1`" in text({**SEEN, "<b>` a": 1})


@pytest.mark.parametrize("value", [7, "text", {"a": None}, [[1]], [], True, None, 1.5])
def test_a_view_of_an_unexpected_shape_is_shown_and_compared_all_the_same(value):
    for name in ("labels", "messages", "targeting", "push_time", "local_push_time", "recurrence", "name", "deeplink"):
        odd = {**SEEN, name: value}
        assert text(odd)
        assert refusal(read(seen=odd), odd) is None


def test_a_long_value_is_shown_to_its_end_because_all_of_it_is_approved():
    landing = {"message": {"body": "x" * 5000 + " the end"}}
    assert "x the end" in text({**SEEN, "landing": landing})
    assert "x the end" in text(payload={"landing": landing})


# --------------------------------------------------------------------------------------------- what the plan says


def test_the_warnings_are_those_of_the_plan():
    clocks = Clocks(NOW, NOW)
    ended = {**SEEN, "push_time": None, "recurrence": {"repeat_unit": "DAILY", "end_date": "2026-05-01T00:00:00"}}
    assert warnings_of(TOKEN, SEEN, None, clocks, None) == []
    (warning,) = warnings_of(TOKEN, ended, None, clocks, None)
    assert "end_date" in warning
    (already,) = warnings_of(TOKEN, {**SEEN, "live": True}, None, clocks, None)
    assert "nothing would be sent" in already


def test_what_the_plan_refuses_is_refused_before_anybody_is_asked():
    clocks = Clocks(NOW, NOW)
    passed = {**SEEN, "push_time": "2026-05-01T00:00:00"}
    with pytest.raises(BatchChangeRefusedError, match="has passed"):
        warnings_of(TOKEN, passed, None, clocks, None)
    assert warnings_of(TOKEN, passed, {"push_time": "2026-08-01T00:00:00", "live": True}, clocks, None) == []
    with pytest.raises(BatchChangeRefusedError, match="dashboard"):
        warnings_of(TOKEN, {**SEEN, "from_api": False}, None, clocks, NOW - timedelta(days=2))
