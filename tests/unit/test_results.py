"""What is sent to XCom: the summary of a campaign, its times, and the rows of its statistics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from samples import TOKEN

from airflow_batch._airflow.task_context import storable, text_or_none
from airflow_batch._values import iso_utc
from airflow_batch.results import campaign_summary, with_open_rate

SEEN = {
    "campaign_token": TOKEN,
    "name": "Summer",
    "live": True,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "title": "T", "body": "Hi"}],
}


# ------------------------------------------------------------------------------------------------------- summary, times


def test_the_summary_has_the_fields_of_the_viewed_campaign():
    seen = SEEN | {"created_date": "2029-01-01T00:00:00"}
    assert campaign_summary(TOKEN, "ios", seen, datetime(2030, 1, 1, tzinfo=UTC)) == {
        "campaign_token": TOKEN,
        "app": "ios",
        "live": True,
        "name": "Summer",
        "push_time": "2030-06-01T09:00:00",
        "created_date": "2029-01-01T00:00:00",
        "checked_at": "2030-01-01T00:00:00.000+00:00",
    }


@pytest.mark.parametrize("odd", [None, 5, ["x"], {"x": 1}])
def test_the_summary_leaves_out_values_that_are_not_text(odd):
    seen = {"live": odd, "name": odd, "push_time": odd, "created_date": odd}
    summary = campaign_summary(TOKEN, None, seen, datetime(2030, 1, 1, tzinfo=UTC))
    assert [summary[name] for name in seen] == [False, None, None, None]


def test_a_text_of_the_server_is_cut_to_500_characters_for_xcom():
    assert text_or_none("x" * 501) == "x" * 500


def test_a_time_of_any_zone_is_formatted_in_utc():
    moment = datetime(2030, 6, 1, 9, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2)))
    assert iso_utc(moment) == "2030-06-01T07:00:00.123+00:00"


# ------------------------------------------------------------------------------------------------------------ open rate


@pytest.mark.parametrize(
    ("row", "rate"),
    [
        ({"sent": 754, "direct_open": 102, "influenced_open": 98}, 200 / 754),
        ({"sent": 0, "direct_open": 0, "influenced_open": 0}, None),
        ({"sent": 10, "direct_open": 1}, None),
        ({"sent": "10", "direct_open": "1", "influenced_open": 0}, 0.1),
        ({"sent": "ten", "direct_open": 1, "influenced_open": 0}, None),
        ({"sent": True, "direct_open": 1, "influenced_open": 0}, None),
        ({"sent": 10, "direct_open": 10**400, "influenced_open": 0}, None),
        ({"sent": -1, "direct_open": 1, "influenced_open": 0}, None),
        ({}, None),
    ],
)
def test_the_open_rate_is_computed_as_batch_documents_or_none(row, rate):
    assert with_open_rate(row) == {**storable(row), "open_rate": rate}


def test_a_version_that_is_not_an_object_has_no_open_rate():
    assert with_open_rate({"versions": {"a": None}})["versions"] == {"a": None}
