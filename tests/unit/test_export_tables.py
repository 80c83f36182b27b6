"""The tables of an export: which row a campaign gives, and that nothing is lost on the way."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_batch._airflow.task_context import storable
from airflow_batch._export.selection import is_created_since, may_have_been_sent_since
from airflow_batch._export.tables import CAMPAIGNS, MESSAGES, STATS, TABLES, rows_of
from airflow_batch.results import with_open_rate

TOKEN = "d9d5e5a52ca08110d4893af3254ec21b"
OWN = {"app": "ios", "campaign_token": TOKEN, "exported_at": "2026-11-28T20:00:00.000+00:00"}
NEWS = {
    "campaign_token": TOKEN,
    "from_api": True,
    "dev_only": False,
    "created_date": "2026-06-01T09:00:00",
    "name": "Bonjour à tous",
    "live": True,
    "push_time": "2026-06-02T09:00:00",
    "targeting": {"segments": ["NEW"]},
    "messages": [{"language": "en", "title": "Hi", "body": "There"}, {"language": "fr", "body": "Salut"}],
}
DETAIL = {"date": "2026-06-02", "sent": 754, "sent_optins": 521, "direct_open": 102, "influenced_open": 98, "errors": 0}


def answer(details, **others):
    """Return what the hook makes of an answer about statistics."""
    return {"campaign_token": TOKEN, "detail": [with_open_rate(row) for row in details], **others}


def rows(campaign=NEWS, stats=(), table=None):
    """Return the rows of a campaign by table."""
    record = {**OWN, "campaign": storable(campaign), "stats": answer(stats)}
    found = {name.name: [] for name in TABLES}
    for to, row in rows_of(record):
        found[to.name].append(row)
    return found if table is None else found[table.name]


def test_every_row_has_all_columns_of_its_table_in_order_with_app_token_and_moment():
    found = rows(stats=[DETAIL])
    for table in TABLES:
        for row in found[table.name]:
            assert tuple(row) == table.names
            assert {name: row[name] for name in OWN} == OWN


def test_a_campaign_has_one_row_and_objects_are_json_text():
    (row,) = rows(table=CAMPAIGNS)
    assert (row["name"], row["live"], row["from_api"]) == ("Bonjour à tous", True, True)
    assert row["targeting"] == '{"segments":["NEW"]}'
    assert row["extra"] is None


def test_labels_that_view_leaves_out_are_null_and_none_is_an_empty_array():
    assert rows(NEWS, table=CAMPAIGNS)[0]["labels"] is None
    assert rows({**NEWS, "labels": []}, table=CAMPAIGNS)[0]["labels"] == "[]"


def test_a_message_has_a_row_for_each_language():
    found = rows(table=MESSAGES)
    assert [(row["variant"], row["position"], row["language"], row["title"], row["body"]) for row in found] == [
        (None, 0, "en", "Hi", "There"),
        (None, 1, "fr", None, "Salut"),
    ]


def test_the_variants_of_an_ab_test_have_messages_of_their_own():
    ab = {"a": [{"language": "en", "body": "A", "deeplink": "app://a"}], "b": [{"language": "en", "body": "B"}]}
    found = rows({**NEWS, "messages": ab}, table=MESSAGES)
    assert [(row["variant"], row["body"], row["deeplink"]) for row in found] == [
        ("a", "A", "app://a"),
        ("b", "B", None),
    ]


def test_a_date_has_a_row_with_its_counters_and_the_open_rate():
    (row,) = rows(stats=[DETAIL], table=STATS)
    assert (row["date"], row["variant"], row["sent"], row["reengaged"]) == ("2026-06-02", "total", 754, None)
    assert row["open_rate"] == pytest.approx(200 / 754)


def test_nothing_sent_has_no_open_rate():
    (row,) = rows(stats=[{**DETAIL, "sent": 0}], table=STATS)
    assert row["open_rate"] is None


def test_a_variant_has_a_row_with_the_date_of_the_whole_and_without_its_errors():
    versions = {"a": {"sent": 10, "direct_open": 1, "influenced_open": 0}, "b": {"sent": 20}}
    total, a, b = rows(stats=[{**DETAIL, "sent": 30, "errors": 7, "versions": versions}], table=STATS)
    assert [(row["variant"], row["date"], row["sent"], row["errors"]) for row in (total, a, b)] == [
        ("total", "2026-06-02", 30, 7),
        ("a", "2026-06-02", 10, None),
        ("b", "2026-06-02", 20, None),
    ]
    assert (a["open_rate"], b["open_rate"]) == (0.1, None)
    assert total["extra"] is None


def test_statistics_that_were_not_read_have_no_row():
    record = {**OWN, "campaign": NEWS, "stats": None}
    assert [table.name for table, _ in rows_of(record)] == ["campaigns", "messages", "messages"]


@pytest.mark.parametrize(
    ("campaign", "extra"),
    [
        ({"capping": 3}, {"capping": 3}),
        ({"name": ["no text"]}, {"name": ["no text"]}),
        ({"live": "true"}, {"live": "true"}),
        ({"time_to_live": 1.5}, {"time_to_live": 1.5}),
        ({"time_to_live": True}, {"time_to_live": True}),
        (
            {"app": "theirs", "exported_at": 1, "extra": {"x": 1}},
            {"app": "theirs", "exported_at": 1, "extra": {"x": 1}},
        ),
        ({"campaign_token": "another"}, {"campaign_token": "another"}),
        ({"messages": "none"}, {"messages": "none"}),
        ({"messages": ["text", {"body": "b"}]}, {"messages": ["text"]}),
        ({"messages": {"a": [{"body": "b"}], "b": 5}}, {"messages": {"b": 5}}),
        ({"capping": None}, None),
    ],
)
def test_what_has_no_column_or_another_type_is_in_extra(campaign, extra):
    (row,) = rows({**NEWS, **campaign}, table=CAMPAIGNS)
    assert (None if row["extra"] is None else json.loads(row["extra"])) == extra


@pytest.mark.parametrize(
    ("versions", "extra"),
    [
        ({"a": 5}, {"versions": {"a": 5}}),
        ([{"version": "a", "sent": 1}], {"versions": [{"version": "a", "sent": 1}]}),
        ({"total": {"sent": 1, "open_rate": None}}, {"versions": {"total": {"sent": 1, "open_rate": None}}}),
        ({}, None),
    ],
)
def test_versions_that_are_no_variants_are_in_extra_of_the_total(versions, extra):
    total, *others = rows(stats=[{**DETAIL, "versions": versions}], table=STATS)
    assert (None if total["extra"] is None else json.loads(total["extra"])) == extra
    assert others == []


def test_what_the_answer_about_statistics_holds_beside_the_dates_is_in_extra_of_the_campaign():
    record = {**OWN, "campaign": NEWS, "stats": answer([DETAIL], totals={"sent": 754})}
    (row,) = [row for table, row in rows_of(record) if table is CAMPAIGNS]
    assert json.loads(row["extra"])["stats_answer"]["totals"] == {"sent": 754}


def test_an_open_rate_that_batch_shows_is_in_extra_unless_it_is_the_computed_one():
    versions = {"a": {"sent": 10, "direct_open": 1, "influenced_open": 0, "open_rate": 0.1}}
    total, a = rows(stats=[{**DETAIL, "open_rate": 0.99, "versions": versions}], table=STATS)
    assert (total["open_rate"], json.loads(total["extra"])) == (pytest.approx(200 / 754), {"open_rate_shown": 0.99})
    assert (a["open_rate"], a["extra"]) == (0.1, None)


def test_a_variant_whose_date_is_null_has_the_date_of_the_whole():
    _, a = rows(stats=[{**DETAIL, "versions": {"a": {"sent": 1, "date": None}}}], table=STATS)
    assert a["date"] == "2026-06-02"


def test_a_counter_given_as_text_is_a_number():
    (row,) = rows(stats=[{**DETAIL, "sent": "754"}], table=STATS)
    assert (row["sent"], row["open_rate"]) == (754, pytest.approx(200 / 754))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    sorted({name for table in TABLES for name in table.names} | {"messages", "versions", "new", "é"})
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=8)
MESSAGE_WORLDS = st.lists(OBJECTS | JSON, max_size=3)
CAMPAIGN_WORLDS = st.builds(
    lambda campaign, messages: {**campaign, "messages": messages},
    OBJECTS,
    MESSAGE_WORLDS | st.dictionaries(st.sampled_from("abc"), MESSAGE_WORLDS | JSON, max_size=2) | JSON,
)
DETAILS = st.builds(
    lambda row, versions: {**row, "versions": versions},
    OBJECTS,
    st.dictionaries(st.sampled_from(["a", "b", "total"]), OBJECTS | JSON, max_size=3) | JSON,
)


def leaves(value):
    """Return every scalar of a JSON value that says something, as text."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [json.dumps(value)]


def unfolded(row):
    """Return a row with the JSON text of its columns parsed."""
    types = {column.name: column.type for table in TABLES for column in table.columns}
    return {
        name: json.loads(value) if types[name] == "json" and isinstance(value, str) else value
        for name, value in row.items()
    }


def is_kept(leaf, kept):
    """Return whether a scalar is in a row: a counter that is text becomes a number."""
    text = json.loads(leaf)
    return leaf in kept or (isinstance(text, str) and text.isdigit() and str(int(text)) in kept)


@settings(max_examples=60, deadline=None)
@given(campaign=CAMPAIGN_WORLDS, stats=st.lists(DETAILS, max_size=2), others=st.dictionaries(st.text(max_size=5), JSON))
def test_every_value_of_any_world_is_in_a_row(campaign, stats, others):
    shown = [leaf for row in stats for leaf in leaves(storable(row))]
    record = {**OWN, "campaign": storable(campaign), "stats": storable({**others, **answer(stats)})}
    found = list(rows_of(record))
    kept = {leaf for _, row in found for leaf in leaves(unfolded(row))}
    lost = [leaf for leaf in [*shown, *leaves([record["campaign"], record["stats"]])] if not is_kept(leaf, kept)]
    assert lost == []


@settings(max_examples=60, deadline=None)
@given(campaign=CAMPAIGN_WORLDS, stats=st.lists(DETAILS, max_size=2))
def test_every_value_of_any_world_has_the_type_of_its_column(campaign, stats):
    record = {**OWN, "campaign": storable(campaign), "stats": answer(stats)}
    allowed = {"text": str, "json": str, "boolean": bool, "integer": int, "number": float}
    for table, row in rows_of(record):
        assert tuple(row) == table.names
        for column in table.columns:
            assert row[column.name] is None or type(row[column.name]) is allowed[column.type], column
        json.dumps(row, allow_nan=False, ensure_ascii=False).encode()


MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("campaign", "sent"),
    [
        ({"live": True, "push_time": "2026-11-01T00:00:00"}, True),
        ({"live": True, "push_time": "2026-10-31T23:59:59"}, False),
        ({"live": False, "push_time": "2027-01-01T00:00:00"}, True),
        ({"live": True, "local_push_time": "2026-10-31T00:00:00"}, True),
        ({"live": True, "local_push_time": "2026-10-29T00:00:00"}, False),
        ({"live": False, "push_time": "2020-01-01T00:00:00", "recurrence": {"repeat_unit": "DAILY"}}, True),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": {"end_date": "2026-10-30T00:00:00"}}, False),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": {"end_date": "2026-10-31T12:00:00"}}, True),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": []}, False),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": {}, "trigger": None}, False),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": [{"repeat_unit": "DAILY"}]}, True),
        ({"push_time": "2020-01-01T00:00:00", "recurrence": "DAILY"}, True),
        ({"push_time": "2020-01-01T00:00:00", "trigger": "event"}, True),
        ({"local_push_time": "2020-01-01T00:00:00", "recurrence": {"end_date": "2026-10-30T12:00:00"}}, True),
        ({"push_time": "2020-01-01T00:00:00", "trigger": {}}, True),
        ({"push_time": "soon"}, True),
        ({}, True),
    ],
)
def test_a_campaign_counts_as_sent_since_unless_its_times_exclude_it(campaign, sent):
    assert may_have_been_sent_since(campaign, MOMENT) is sent


@pytest.mark.parametrize(
    ("created", "since"), [("2026-11-01T00:00:00", True), ("2026-10-31T23:59:59", False), ("odd", True), (None, True)]
)
def test_a_campaign_counts_as_created_since_unless_its_date_excludes_it(created, since):
    assert is_created_since({"created_date": created}, MOMENT) is since
