"""The desired state of many campaigns: which lists are accepted, and how a wrong one is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from airflow_batch._sync.desired import DesiredCampaign, read_desired
from airflow_batch.exceptions import BatchPayloadError
from airflow_batch.windows import CampaignWindow

MORNING = CampaignWindow(on="0 9 * * *", off="0 18 * * *", timezone="Europe/Paris")
ITEM = {"campaign": "abc", "live": True}


class Lazy:
    """A sequence that must be sliced, as Airflow's lazy XComs: reading each item alone would be a request."""

    def __init__(self, items):
        self.items = items
        self.slices = 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        assert isinstance(index, slice)
        self.slices += 1
        return self.items[index]


def test_an_item_needs_only_campaign_and_live():
    assert read_desired([ITEM]) == [DesiredCampaign(token="abc", app=None, live=True)]


def test_an_item_may_have_app_expect_name_and_definition():
    given = {**ITEM, "app": "ios", "expect_name": "Sale", "definition": {"name": "Sale", "live": "false"}}
    assert read_desired([given]) == [
        DesiredCampaign(
            token="abc", app="ios", live=True, expect_name="Sale", definition={"name": "Sale", "live": False}
        )
    ]


@pytest.mark.parametrize(("text", "live"), [("True", True), ("false", False), (" TRUE ", True)])
def test_live_of_an_item_may_be_rendered_text(text, live):
    assert read_desired([{**ITEM, "live": text}])[0].live is live


def test_live_of_an_item_may_be_a_window():
    (campaign,) = read_desired([{**ITEM, "live": MORNING}])
    assert campaign.live.is_live_at(datetime(2026, 7, 1, 12, tzinfo=UTC))
    assert not campaign.live.is_live_at(datetime(2026, 7, 1, 20, tzinfo=UTC))


@pytest.mark.parametrize(
    ("item", "default", "app"),
    [
        ({}, None, None),
        ({}, "ios", "ios"),
        ({"campaign": {"campaign_token": "abc", "app": "android"}}, "ios", "android"),
        ({"campaign": {"campaign_token": "abc", "app": None}}, "ios", "ios"),
        ({"campaign": {"campaign_token": "abc", "app": "android"}, "app": "tv"}, "ios", "tv"),
        ({"app": ""}, "ios", "ios"),
    ],
)
def test_the_app_is_that_of_the_item_else_of_the_result_else_the_default(item, default, app):
    (campaign,) = read_desired([{**ITEM, **item}], default)
    assert (campaign.token, campaign.app) == ("abc", app)


@pytest.mark.parametrize("items", [(ITEM,), [MappingProxyType(ITEM)]])
def test_any_sequence_of_mappings_is_accepted(items):
    assert len(read_desired(items)) == 1


def test_a_lazy_sequence_is_read_with_one_slice():
    from collections.abc import Sequence

    class LazySequence(Lazy, Sequence):
        pass

    items = LazySequence([{**ITEM, "campaign": f"c{index}"} for index in range(50)])
    assert [campaign.token for campaign in read_desired(items)] == [f"c{index}" for index in range(50)]
    assert items.slices == 1


def test_an_empty_list_of_campaigns_is_accepted():
    assert read_desired([]) == []


@pytest.mark.parametrize("items", [None, "abc", b"abc", 5, {"campaign": "abc", "live": True}, {ITEM["campaign"]}])
def test_campaigns_that_are_not_a_list_are_refused_with_an_example(items):
    with pytest.raises(BatchPayloadError, match=r"campaigns must be a list of objects such as \{'campaign': TOKEN"):
        read_desired(items)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (None, "must be an object .* not null"),
        ("abc", "must be an object .* not a value of type str"),
        ([ITEM], "must be an object .* not a value of type list"),
        ({"campaign": "abc"}, "has no 'live'"),
        ({"live": True}, "has no 'campaign'"),
        ({**ITEM, "lives": True}, "unknown key 'lives'.*Allowed are campaign, app, live, expect_name, definition"),
        ({**ITEM, 5: True}, "unknown key 5"),
        ({**ITEM, "live": "maybe"}, "live must be true or false, not 'maybe'"),
        ({**ITEM, "live": None}, "live must be true or false"),
        ({**ITEM, "live": 1}, "live must be true or false"),
        ({**ITEM, "live": "on"}, "live must be true or false, not 'on'"),
        ({**ITEM, "live": CampaignWindow}, "live must be true or false"),
        ({**ITEM, "campaign": ""}, "empty"),
        ({**ITEM, "campaign": None}, "token"),
        ({**ITEM, "campaign": "a/b"}, "a/b"),
        ({**ITEM, "campaign": {"token": "abc"}}, "campaign_token"),
        ({**ITEM, "campaign": {"campaign_token": "abc", "app": 5}}, "app"),
        ({**ITEM, "app": 5}, "app must be text, not a value of type int"),
        ({**ITEM, "expect_name": ["a"]}, "expect_name must be text, not a value of type list"),
        ({**ITEM, "definition": "abc"}, "definition must be an object"),
        ({**ITEM, "definition": {}}, "definition is empty"),
        ({**ITEM, "definition": {"name": "ab"}}, "name must be text of at least 3"),
        ({**ITEM, "definition": {"name": "Sale", "x": float("nan")}}, "x is nan"),
    ],
)
def test_a_wrong_item_is_refused_with_its_place(item, words):
    with pytest.raises(BatchPayloadError, match=rf"^campaigns\[1\].*{words}"):
        read_desired([{"campaign": "other", "live": False}, item])


@pytest.mark.parametrize("live", [True, False, MORNING])
def test_a_campaign_that_is_in_the_list_twice_is_refused(live):
    others = [{**ITEM, "campaign": f"c{index}"} for index in range(3)]
    with pytest.raises(BatchPayloadError, match=r"campaigns\[4\] is campaign 'abc' of campaigns\[1\] again"):
        read_desired([others[0], ITEM, *others[1:], {**ITEM, "live": live}])


def test_the_default_app_is_used_to_find_duplicates():
    duplicates = [ITEM, {**ITEM, "app": "ios"}]
    assert len(read_desired(duplicates)) == 2
    with pytest.raises(BatchPayloadError, match="again"):
        read_desired(duplicates, "ios")


def test_a_list_of_a_hundred_thousand_campaigns_is_read():
    desired = read_desired([{"campaign": f"c{index}", "live": index % 2 == 0} for index in range(100_000)])
    assert len(desired) == 100_000


def test_a_wrong_definition_does_not_block_a_stop(caplog):
    (item,) = read_desired([{**ITEM, "live": False, "definition": {"name": "ab"}}])
    assert (item.live, item.definition) == (False, None)
    assert "name must be text of at least 3" in caplog.text
