"""The hook's endpoints besides update and view, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from samples import SUMMER_SALE

from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiMisuseError,
    BatchMissingParameterError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchResponseError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox, Fault


@pytest.fixture
def hook(batch):
    return BatchHook()


def tokens(campaigns):
    return [campaign["campaign_token"] for campaign in campaigns]


class TestCreate:
    def test_create_campaign_returns_the_token_of_the_new_campaign(self, batch, hook):
        token = hook.create_campaign({**SUMMER_SALE, "push_time": datetime(2099, 1, 1, 9, tzinfo=UTC)})
        assert batch.campaign(token)["name"] == "Summer sale"
        assert batch.campaign(token)["push_time"] == "2099-01-01T09:00:00"

    def test_create_campaign_refuses_an_invalid_payload_before_any_request(self, batch, hook):
        with pytest.raises(BatchPayloadError):
            hook.create_campaign({**SUMMER_SALE, "name": "ab"})
        assert batch.requests == ()

    def test_create_campaign_raises_batchs_error_for_a_missing_parameter(self, hook):
        with pytest.raises(BatchMissingParameterError) as caught:
            hook.create_campaign({"name": "Summer sale"})
        assert caught.value.may_have_been_applied is False

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{}", b'{"campaign_token": ""}', b'{"campaign_token": 5}', b"[]", b"<p>"),
            b'{"campaign_token": "dry-run-00000000000000000000000000000000"}',
        ],
    )
    def test_create_campaign_may_have_created_one_where_the_answer_has_no_token(self, batch, hook, body):
        batch.inject(Fault("answer", "create", status=201, body=body))
        with pytest.raises(BatchResponseError) as caught:
            hook.create_campaign(SUMMER_SALE)
        assert caught.value.may_have_been_applied

    def test_create_campaign_may_have_created_one_where_the_answer_is_lost(self, batch, hook):
        batch.inject(Fault("reset_after", "create"))
        with pytest.raises(BatchAmbiguousError) as caught:
            hook.create_campaign(SUMMER_SALE)
        assert caught.value.may_have_been_applied
        assert len(batch.tokens()) == 1

    def test_create_campaign_sends_one_request(self, batch, hook):
        batch.inject(Fault("answer", "create", status=429))
        with pytest.raises(BatchRateLimitError):
            hook.create_campaign(SUMMER_SALE)
        assert len(batch.requests) == 1


@pytest.fixture
def pages_of(monkeypatch):
    """Return a function that sets how many campaigns a page has."""
    return lambda count: monkeypatch.setattr("airflow_batch.hooks.batch.MAX_PAGE", count)


class TestList:
    def test_list_campaigns_reads_pages_until_a_short_one_and_returns_the_newest_first(self, batch, hook, pages_of):
        pages_of(3)
        created = [batch.add_campaign({**SUMMER_SALE, "name": f"Campaign {n}"}) for n in range(7)]
        assert tokens(hook.list_campaigns()) == created[::-1]
        assert [record.query for record in batch.requests] == ["from=0&limit=3", "from=3&limit=3", "from=6&limit=3"]

    def test_list_campaigns_reads_one_empty_page_after_a_full_last_page(self, batch, hook, pages_of):
        pages_of(2)
        for _ in range(4):
            batch.add_campaign(SUMMER_SALE)
        assert len(list(hook.list_campaigns())) == 4
        assert len(batch.requests) == 3

    def test_list_campaigns_fails_for_a_list_without_an_end(self, batch, hook, pages_of, monkeypatch):
        pages_of(2)
        monkeypatch.setattr("airflow_batch.hooks.batch.MAX_PAGES", 3)
        for _ in range(4):
            batch.add_campaign(SUMMER_SALE)
        assert len(list(hook.list_campaigns())) == 4
        pages_of(1)
        with pytest.raises(BatchResponseError, match="did not end after 3 pages"):
            list(hook.list_campaigns())

    def test_list_campaigns_returns_each_campaign_once_while_others_are_created(self, batch, hook, pages_of):
        pages_of(2)
        before = [batch.add_campaign(SUMMER_SALE) for _ in range(6)]
        found = []
        for campaign in hook.list_campaigns():
            found.append(campaign["campaign_token"])
            if len(found) % 2 == 0 and len(found) < 6:
                batch.add_campaign(SUMMER_SALE)
        assert len(found) == len(set(found))
        assert set(found) >= set(before)

    def test_list_pages_yields_after_each_request_also_where_a_page_shows_nothing_else(self, batch, hook, pages_of):
        pages_of(2)
        third, second, first = (batch.add_campaign(SUMMER_SALE) for _ in range(3))
        found = []
        for page, is_last in hook.list_pages():
            found.append((tokens(page), is_last, len(batch.requests)))
            batch.add_campaign(SUMMER_SALE)
        assert found == [([first, second], False, 1), ([third], False, 2), ([], True, 3)]

    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({}, ["made in the dashboard", "running", "draft"]),
            ({"live": True}, ["running"]),
            ({"live": False}, ["made in the dashboard", "draft"]),
            ({"from_api": False}, ["made in the dashboard"]),
            ({"live": False, "from_api": True}, ["draft"]),
        ],
    )
    def test_list_campaigns_filters_by_live_and_from_api(self, batch, hook, filters, names):
        batch.add_campaign({**SUMMER_SALE, "name": "draft"})
        batch.add_campaign({**SUMMER_SALE, "name": "running", "live": True})
        batch.add_campaign({**SUMMER_SALE, "name": "made in the dashboard"}, from_api=False)
        assert [campaign["name"] for campaign in hook.list_campaigns(**filters)] == names

    def test_list_campaigns_requests_pages_only_as_they_are_read(self, batch, hook, pages_of):
        pages_of(3)
        for _ in range(9):
            batch.add_campaign(SUMMER_SALE)
        campaigns = hook.list_campaigns()
        assert batch.requests == ()
        next(campaigns)
        assert len(batch.requests) == 1

    def test_list_campaigns_ends_where_a_server_always_sends_the_same_full_page(self, batch, hook, pages_of):
        pages_of(2)
        page = [{"campaign_token": "a"}, {"campaign_token": "b"}]
        batch.inject(Fault("answer", "list", status=200, body=page, times=None))
        assert tokens(hook.list_campaigns()) == ["a", "b"]
        assert len(batch.requests) == 2

    @pytest.mark.parametrize("page", [{}, [{}], ["token"], [{"campaign_token": None}], {"campaigns": []}])
    def test_list_campaigns_fails_for_a_response_that_is_no_list_of_campaigns(self, batch, hook, page):
        batch.inject(Fault("answer", "list", status=200, body=page))
        with pytest.raises(BatchResponseError):
            list(hook.list_campaigns())


class TestDelete:
    def test_delete_campaign_deletes_the_campaign(self, batch, hook):
        token = batch.add_campaign(SUMMER_SALE)
        assert hook.delete_campaign(token) == 200
        assert batch.tokens() == ()

    def test_delete_campaign_of_an_unknown_token_raises_not_found(self, hook):
        with pytest.raises(BatchNotFoundError):
            hook.delete_campaign("0123456789abcdef")

    def test_delete_campaign_refuses_the_name_of_a_route_as_token(self, batch, hook):
        with pytest.raises(BatchPayloadError):
            hook.delete_campaign("list")
        assert batch.requests == ()

    def test_delete_campaign_may_have_deleted_it_where_the_answer_is_lost(self, batch, hook):
        batch.inject(Fault("reset_after", "delete"))
        with pytest.raises(BatchAmbiguousError) as caught:
            hook.delete_campaign(batch.add_campaign(SUMMER_SALE))
        assert caught.value.may_have_been_applied


class TestStats:
    ROW = {
        "date": "2015-11-20",
        "sent": 754,
        "sent_optins": 521,
        "direct_open": 102,
        "influenced_open": 98,
        "reengaged": 12,
        "errors": 0,
    }

    def test_get_campaign_stats_returns_the_documented_rows_with_their_open_rate(self, batch, hook):
        token = batch.add_campaign(SUMMER_SALE)
        batch.set_stats(token, [self.ROW])
        stats = hook.get_campaign_stats(token)
        assert stats["campaign_token"] == token
        assert stats["detail"] == [{**self.ROW, "open_rate": pytest.approx((102 + 98) / 754)}]

    def test_get_campaign_stats_adds_the_open_rate_of_each_ab_version(self, batch, hook):
        token = batch.add_campaign(SUMMER_SALE)
        version = {"sent": 10, "sent_optins": 5, "direct_open": 1, "influenced_open": 2, "reengaged": 0}
        batch.set_stats(token, [{**self.ROW, "versions": {"a": version, "b": {**version, "sent": 0}}}])
        (row,) = hook.get_campaign_stats(token)["detail"]
        assert row["versions"]["a"] == {**version, "open_rate": pytest.approx(0.3)}
        assert row["versions"]["b"]["open_rate"] is None

    def test_get_campaign_stats_returns_no_row_where_nothing_was_sent(self, batch, hook):
        assert hook.get_campaign_stats(batch.add_campaign(SUMMER_SALE))["detail"] == []

    def test_get_campaign_stats_fails_with_a_dev_key(self, batch, connect):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchApiMisuseError):
            BatchHook().get_campaign_stats(batch.add_campaign(SUMMER_SALE))

    @pytest.mark.parametrize("body", [{}, {"detail": None}, {"detail": ["x"]}, []])
    def test_get_campaign_stats_fails_for_a_response_without_statistics(self, batch, hook, body):
        batch.inject(Fault("answer", "stats", status=200, body=body))
        with pytest.raises(BatchResponseError):
            hook.get_campaign_stats(batch.add_campaign(SUMMER_SALE))


class TestClock:
    def test_the_clock_offset_of_a_hook_is_0_before_the_first_response(self):
        assert BatchHook().clock_offset == timedelta(0)

    @pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(minutes=-7)])
    def test_the_clock_offset_of_a_hook_is_that_of_the_last_response(self, connect, ahead):
        with BatchSandbox(clock=lambda: datetime.now(UTC) + ahead) as sandbox:
            connect(sandbox.connection())
            hook = BatchHook()
            list(hook.list_campaigns())
        assert abs(hook.clock_offset - ahead) < timedelta(seconds=3)
        assert abs(hook.batch_now() - datetime.now(UTC) - ahead) < timedelta(seconds=3)

    def test_a_response_without_a_date_does_not_change_the_clock_offset(self, batch, hook):
        batch.inject(Fault("answer", "list", status=200, body=[], headers={"Date": "soon"}))
        list(hook.list_campaigns())
        assert hook.clock_offset == timedelta(0)
