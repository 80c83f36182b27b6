"""What is handed to XCom: the summary of a campaign as it was seen, its times, the rows of its statistics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_batch._airflow.task_context import storable, text_or_none
from airflow_batch._values import iso_utc
from airflow_batch.results import campaign_summary, with_open_rate

TOKEN = "d9d5e5a52ca08110d4893af3254ec21b"
SEEN = {
    "campaign_token": TOKEN,
    "name": "Summer",
    "live": True,
    "push_time": "2030-06-01T09:00:00",
    "messages": [{"language": "en", "title": "T", "body": "Hi"}],
}


# ------------------------------------------------------------------------------------------------------- summary, times


def test_a_summary_holds_what_was_seen():
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
def test_a_summary_leaves_out_what_is_no_text(odd):
    seen = {"live": odd, "name": odd, "push_time": odd, "created_date": odd}
    summary = campaign_summary(TOKEN, None, seen, datetime(2030, 1, 1, tzinfo=UTC))
    assert [summary[name] for name in seen] == [False, None, None, None]


def test_a_servers_text_is_cut_for_xcom():
    assert text_or_none("x" * 501) == "x" * 500


def test_a_time_of_any_zone_is_written_in_utc():
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
def test_the_open_rate_is_batchs_formula_or_nothing(row, rate):
    assert with_open_rate(row) == {**storable(row), "open_rate": rate}


def test_a_version_that_is_no_object_is_left_as_it_is():
    assert with_open_rate({"versions": {"a": None}})["versions"] == {"a": None}
