"""What may be sent to Batch, and in which form."""

from __future__ import annotations

import enum
import json
import logging
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePath
from types import MappingProxyType

import pendulum
import pytest

from airflow_batch._campaigns.payload import (
    MAX_DEPTH,
    check_live_argument,
    check_new,
    check_payload,
    payload_digest,
    read_live,
)
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError
from airflow_batch.windows import CampaignWindow

# A number of more digits than Python writes as text.
HUGE = pytest.param(10**5000, id="huge")


def refusal(function, *arguments):
    with pytest.raises(BatchPayloadError) as caught:
        function(*arguments)
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------------------- live


@pytest.mark.parametrize("value", [True, "True", "true", " TRUE "])
def test_live_is_true_for_true_and_its_rendered_text(value):
    assert read_live(value) is check_payload({"live": value})["live"] is True


@pytest.mark.parametrize("value", [False, "False", "false", "FALSE\n"])
def test_live_is_false_for_false_and_its_rendered_text(value):
    assert read_live(value) is check_payload({"live": value})["live"] is False


@pytest.mark.parametrize(
    "value",
    [None, 1, 0, 1.0, "", "None", "1", "yes", "on", "0", "no", "OFF", "live", "{{ x }}", [], [True], {}, b"true", HUGE],
)
def test_live_refuses_any_other_value(value):
    assert "live must be true or false" in refusal(read_live, value)
    assert refusal(check_payload, {"live": value}).startswith("live ")


class Output:
    """The output of another task, by the one method of Airflow's XComArg that matters."""

    def resolve(self, context):
        raise NotImplementedError


WINDOW = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="UTC")


@pytest.mark.parametrize(
    "live", [True, False, "true", " False ", "{{ params.live }}", "{% if x %}true{% endif %}", WINDOW, Output()]
)
def test_an_argument_live_that_may_render_to_a_boolean_passes_when_the_dag_is_parsed(live):
    check_live_argument(live)


@pytest.mark.parametrize("live", [None, 1, 0, "", "yes", "on", "1", "maybe", [], CampaignWindow, datetime(2030, 1, 1)])
def test_an_argument_live_that_can_never_be_a_boolean_is_refused_when_the_dag_is_parsed(live):
    with pytest.raises(
        BatchConfigurationError, match=r"Allowed are True, False, .* a template and the output"
    ) as caught:
        check_live_argument(live)
    assert "live is " in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- payload


def test_a_payload_of_json_values_passes_unchanged():
    payload = {
        "name": "Summer sale",
        "live": False,
        "push_time": "2030-06-01T09:00:00",
        "messages": [{"language": "en", "body": "Hi {{ name }} 👋", "title": None}],
        "targeting": {"segments": ["NEW"], "query": {"t.k": {"$contains": ["v"]}}},
        "time_to_live": 3600,
        "ratio": 0.5,
        "not_yet_known": {"a": [1]},
    }
    assert check_payload(payload) == payload


def test_the_check_does_not_change_the_given_payload():
    payload = {"live": "true", "recurrence": {"end_date": "2030-06-01T09:00:00+02:00"}, "messages": ({"body": "a"},)}
    check_payload(payload)
    assert payload == {
        "live": "true",
        "recurrence": {"end_date": "2030-06-01T09:00:00+02:00"},
        "messages": ({"body": "a"},),
    }


@pytest.mark.parametrize("payload", [None, [], [("live", True)], "live", 5, True, {"live"}])
def test_a_payload_that_is_not_an_object_is_refused(payload):
    assert "payload must be an object" in refusal(check_payload, payload)


def test_a_payload_without_parameters_is_refused():
    assert "there is nothing to send" in refusal(check_payload, {})


class Colour(str, enum.Enum):  # noqa: UP042 - StrEnum writes itself as text, this one does not
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (range(3), [0, 1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (pendulum.datetime(2030, 6, 1, 9, tz="Europe/Paris"), "2030-06-01T07:00:00"),
        (datetime(2030, 6, 1, 9, tzinfo=timezone(timedelta(hours=-5))), "2030-06-01T14:00:00"),
        (datetime(2030, 6, 1, 9, 0, 0, 999_999, tzinfo=UTC), "2030-06-01T09:00:00"),
    ],
    ids=repr,
)
def test_a_value_with_a_form_in_json_is_converted(value, sent):
    checked = check_payload({"custom": value, "other": {"deep": [value]}})
    assert checked == {"custom": sent, "other": {"deep": [sent]}}
    assert json.loads(json.dumps(checked, allow_nan=False)) == checked


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        Decimal("1.5"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        {1, 2},
        frozenset(),
        object(),
        PurePath("x"),
        date(2030, 6, 1),
        pendulum.date(2030, 6, 1),
        time(9),
        timedelta(hours=1),
        datetime(2030, 6, 1, 9),
        pendulum.naive(2030, 6, 1, 9),
        {1: "a"},
        {None: "a"},
        (x for x in "ab"),
        1j,
        HUGE,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_form_in_json_is_refused_with_its_place(value):
    assert refusal(check_payload, {"custom": value}).startswith("custom")
    assert refusal(check_payload, {"custom": {"deep": [0, value]}}).startswith("custom.deep[1]")


def test_an_object_or_a_list_that_contains_itself_is_refused():
    mapping, items = {}, []
    mapping["itself"] = mapping
    items.append(items)
    for value in (mapping, items):
        assert "or holds itself" in refusal(check_payload, {"custom": value})


@pytest.mark.parametrize("key", [1, None, True, b"live", ("a",), HUGE], ids=lambda key: type(key).__name__)
def test_a_key_that_is_not_text_is_refused(key):
    assert "JSON keys are text" in refusal(check_payload, {key: 1})


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
def test_a_payload_may_be_nested_fifty_levels_deep(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    if levels > MAX_DEPTH:
        assert f"nested deeper than {MAX_DEPTH} levels" in refusal(check_payload, {"custom": value})
    else:
        assert check_payload({"custom": value}) == {"custom": value}


# ----------------------------------------------------------------------------------------------------- known parameters


@pytest.mark.parametrize("name", ["abc", "été", "Nones"])
def test_a_name_of_three_characters_is_accepted(name):
    assert check_payload({"name": name}) == {"name": name}


@pytest.mark.parametrize("name", ["ab", None, 123, ["abc"], True, HUGE])
def test_a_name_that_batch_would_refuse_is_refused(name):
    assert refusal(check_payload, {"name": name}).startswith("name ")


@pytest.mark.parametrize("name", ["None", "", " None ", "   "])
def test_a_name_that_a_template_rendered_to_nothing_is_refused(name):
    assert refusal(check_payload, {"name": name}).endswith(f"not {name!r}. Has its template rendered to nothing?")


@pytest.mark.parametrize(
    ("name", "near"),
    [("pushtime", "push_time"), ("pushTime", "push_time"), ("Live", "live"), ("message", "messages")],
)
def test_a_misspelt_parameter_is_sent_and_a_warning_names_the_nearest_known_one(caplog, name, near):
    assert check_payload({name: "x"}, "definition") == {name: "x"}
    assert caplog.messages == [
        f"definition has the unknown parameter {name!r}. It is sent as it is. Is {near!r} meant?"
    ]


def test_there_is_no_warning_for_a_known_parameter_or_one_that_resembles_none(caplog):
    with caplog.at_level(logging.DEBUG):
        check_payload({"name": "Summer", "recurrence": None, "brand_new": 1, "x" * 100_000: 1})
    assert not caplog.records


MESSAGE = {"language": "en", "body": "Hi"}
NEW = {"name": "Summer", "live": False}


@pytest.mark.parametrize("messages", [[MESSAGE], {"a": [MESSAGE], "b": [MESSAGE, MESSAGE]}, {"a": [MESSAGE]}])
def test_messages_may_be_a_list_or_an_object_of_versions(messages):
    assert check_new(check_payload({**NEW, "messages": messages})) == {**NEW, "messages": messages}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"body": "Hi"}], "messages[0] has no language"),
        ([MESSAGE, {"language": "en"}], "messages[1] has no body"),
        ([{**MESSAGE, "body": ""}], "messages[0] has no body"),
        (["Hi"], "messages[0] has no language"),
        ({"a": [MESSAGE], "b": [MESSAGE, {**MESSAGE, "language": None}]}, "messages.b[1] has no language"),
        ({"a": [MESSAGE], "b": []}, "messages.b must be a list of messages, not []"),
        ({"\n": 5}, "'messages.\\n' must be a list of messages, not 5"),
        ([], "messages must be a list of messages, not []"),
        ("Hi", "messages must be a list of messages, not 'Hi'"),
    ],
)
def test_a_message_of_a_new_campaign_without_language_or_body_is_refused_with_its_place(messages, words):
    assert refusal(check_new, check_payload({**NEW, "messages": messages})).startswith(words)


@pytest.mark.parametrize("messages", [[{"body": "Hi"}], {"a": [{}]}, [], "Hi", None])
def test_the_messages_of_an_update_are_not_checked(messages):
    assert check_payload({"messages": messages}) == {"messages": messages}


@pytest.mark.parametrize("labels", [[], ["A"], ["A", "B", "C"], ("A", "B"), None])
def test_up_to_three_labels_are_accepted(labels):
    assert check_payload({"labels": labels})["labels"] == (labels and list(labels))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (["A", "B", "C", "D"], "labels holds 4 entries; Batch takes at most 3"),
        ("ABC", "list of label codes"),
        ([1], "list of label codes"),
        ([None], "list of label codes"),
        ({"a": 1}, "list of label codes"),
    ],
)
def test_labels_that_batch_would_refuse_are_refused(labels, complaint):
    assert complaint in refusal(check_payload, {"labels": labels})


MOMENTS = [
    ("2030-06-01T09:00:00", "2030-06-01T09:00:00"),
    ("2030-06-01T09:00:00Z", "2030-06-01T09:00:00"),
    ("2030-06-01T09:00:00+02:00", "2030-06-01T07:00:00"),
    ("2030-06-01 09:00", "2030-06-01T09:00:00"),
    (" 2030-06-01T09:00:00.75 ", "2030-06-01T09:00:00"),
    ("2030-01-01T00:30:00+01:00", "2029-12-31T23:30:00"),
    (pendulum.datetime(2030, 6, 1, 9, tz="Europe/Paris"), "2030-06-01T07:00:00"),
    (datetime(2030, 6, 1, 9, tzinfo=UTC), "2030-06-01T09:00:00"),
]


@pytest.mark.parametrize(("value", "sent"), MOMENTS, ids=lambda x: str(x))
def test_a_time_is_sent_in_utc_without_a_zone(value, sent):
    checked = check_payload({"push_time": value, "recurrence": {"end_date": value, "repeat_unit": "DAILY"}})
    assert checked == {"push_time": sent, "recurrence": {"end_date": sent, "repeat_unit": "DAILY"}}


def test_push_time_may_be_now_and_an_end_date_may_not():
    assert check_payload({"push_time": "now"}) == {"push_time": "now"}
    assert refusal(check_payload, {"recurrence": {"end_date": "now"}}).startswith(
        "recurrence.end_date must be a UTC time"
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "NOW",
        "tomorrow",
        "09:00",
        "2030-02-30T09:00:00",
        "2030-06-01T25:00:00",
        5,
        True,
        [],
        {},
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:00:00-14:00",
        datetime(2030, 6, 1, 9),
        date(2030, 6, 1),
    ],
    ids=str,
)
def test_a_time_that_cannot_be_read_is_refused_with_its_place(value):
    assert refusal(check_payload, {"push_time": value}).startswith("push_time ")
    assert refusal(check_payload, {"recurrence": {"end_date": value}}).startswith("recurrence.end_date ")


@pytest.mark.parametrize(
    "payload",
    [{"push_time": None}, {"recurrence": None}, {"recurrence": {"end_date": None}}, {"local_push_time": None}],
    ids=str,
)
def test_null_is_accepted_for_times_and_recurrence(payload):
    assert check_payload(payload) == payload


@pytest.mark.parametrize(
    "value",
    ["2030-06-01T09:00:00", " 2030-06-01 09:00 ", datetime(2030, 6, 1, 9), pendulum.naive(2030, 6, 1, 9)],
    ids=repr,
)
def test_a_local_push_time_is_a_wall_clock_time(value):
    assert check_payload({"local_push_time": value}) == {"local_push_time": "2030-06-01T09:00:00"}


@pytest.mark.parametrize(
    "value",
    [
        "2030-06-01T09:00:00Z",
        "2030-06-01T09:00:00+02:00",
        datetime(2030, 6, 1, 9, tzinfo=UTC),
        pendulum.datetime(2030, 6, 1, 9, tz="Europe/Paris"),
    ],
    ids=repr,
)
def test_a_local_push_time_with_a_zone_is_refused(value):
    assert "give it without a time zone" in refusal(check_payload, {"local_push_time": value})


@pytest.mark.parametrize(
    "value",
    ["", "now", "09:00", 5, True, [], {}, date(2030, 6, 1), b"2030-06-01T09:00:00", bytearray(b"x"), HUGE],
    ids=lambda value: type(value).__name__,
)
def test_a_local_push_time_that_is_not_a_time_is_refused(value):
    assert "local_push_time must be a time such as" in refusal(check_payload, {"local_push_time": value})


def test_only_local_push_time_at_the_top_level_is_a_wall_clock_time():
    assert "without a time zone" in refusal(check_payload, {"custom": {"local_push_time": datetime(2030, 6, 1, 9)}})


# --------------------------------------------------------------------------------------------------------------- digest


def test_the_digest_is_the_same_in_any_order_of_keys():
    one = check_payload({"name": "Summer", "messages": [{"language": "en", "body": "Hi"}]})
    other = check_payload({"messages": [{"body": "Hi", "language": "en"}], "name": "Summer"})
    assert payload_digest(one) == payload_digest(other)
    assert payload_digest({"a": 1, "b": "\ud800"}) == payload_digest({"b": "\ud800", "a": 1})
    assert len(payload_digest(one)) == 64


@pytest.mark.parametrize("other", [{"a": [2, 1]}, {"a": [1, 2], "b": None}, {"a": ["1", 2]}, {"A": [1, 2]}])
def test_the_digest_differs_for_another_payload(other):
    assert payload_digest({"a": [1, 2]}) != payload_digest(other)


def test_the_order_of_keys_is_kept_for_batch():
    names = ["push_time", "name", "live", "aaa"]
    payload = dict(zip(names, ["now", "Summer", True, 1], strict=True))
    assert list(check_payload(payload)) == names
