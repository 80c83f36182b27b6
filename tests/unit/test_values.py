"""Values in messages, and the checks that several classes share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_batch._values import as_datetime, aware_utc, check_choice, duration_text, short_list, whole_number
from airflow_batch.exceptions import BatchConfigurationError

PARIS = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, and 1 more"), (13, "0, 1, 2, and 10 more")],
)
def test_a_short_list_has_the_first_items_and_the_number_of_the_others(count, text):
    assert short_list(range(count), 3) == text


def test_only_the_items_of_a_short_list_that_it_has_are_made_into_text():
    def show(item):
        assert item < 2
        return f"item {item}"

    text = short_list(range(1_000_000), 2, show=show, separator="\n", noun="mistakes.")
    assert text == "item 0\nitem 1\nand 999998 more mistakes."


def test_a_mapping_may_be_a_short_list():
    assert short_list({"a": 1, "b": 2}.items(), 1, show=lambda item: f"{item[0]}={item[1]}", separator="; ") == (
        "a=1; and 1 more"
    )


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (7, "7 s"),
        (90, "90 s"),
        (timedelta(minutes=30), "30 min"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(hours=6), "6 h"),
        (timedelta(days=1), "24 h"),
        (601, "601 s"),
    ],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(duration, text):
    assert duration_text(duration) == text


@pytest.mark.parametrize("value", [True, None, 1.0, "5", -1, 33])
def test_a_value_that_is_no_whole_number_of_the_range_is_refused(value):
    with pytest.raises(BatchConfigurationError, match="most must be a whole number from 0 to 32, not"):
        whole_number("most", value, 0, 32)


def test_a_whole_number_is_returned_and_need_not_have_an_upper_bound():
    assert [whole_number("most", value, 0, 32) for value in (0, 32)] == [0, 32]
    assert whole_number("most", 10**12) == 10**12
    with pytest.raises(BatchConfigurationError, match="most must be a whole number of at least 1, not 0"):
        whole_number("most", 0, 1)


@pytest.mark.parametrize("value", ["c", None, ["a"], 1])
def test_a_value_that_is_no_choice_is_refused_with_the_choices(value):
    with pytest.raises(BatchConfigurationError, match="way must be 'a' or 'b', not"):
        check_choice("way", value, ("a", "b"))


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-07-01T09:00+02:00", datetime(2026, 7, 1, 7, tzinfo=UTC)),
        (datetime(2026, 7, 1, 9, tzinfo=PARIS), datetime(2026, 7, 1, 7, tzinfo=UTC)),
        ("2026-07-01T09:00", None),
        ("tomorrow", None),
        (5, None),
        (None, None),
        (datetime.min.replace(tzinfo=PARIS), None),
    ],
)
def test_a_moment_in_utc_is_that_of_an_aware_datetime_or_text_only(value, moment):
    found = aware_utc(as_datetime(value))
    assert found == moment
    assert found is None or found.tzinfo is UTC
