"""The hook's endpoints besides update and view, against the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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

DRAFT = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-01-01T09:00:00",
    "messages": [{"language": "en", "body": "Everything must go"}],
}


@pytest.fixture
def hook(batch):
    return BatchHook()


def tokens(campaigns):
    return [campaign["campaign_token"] for campaign in campaigns]


class TestCreate:
    def test_it_returns_the_token_of_the_new_campaign(self, batch, hook):
        token = hook.create_campaign({**DRAFT, "push_time": datetime(2099, 1, 1, 9, tzinfo=UTC)})
        assert batch.campaign(token)["name"] == "Summer sale"
        assert batch.campaign(token)["push_time"] == "2099-01-01T09:00:00"

    def test_what_cannot_be_sent_is_refused_before_anything_is_sent(self, batch, hook):
        with pytest.raises(BatchPayloadError):
            hook.create_campaign({**DRAFT, "name": "ab"})
        assert batch.requests == ()

    def test_what_batch_misses_is_its_own_error(self, hook):
        with pytest.raises(BatchMissingParameterError) as caught:
            hook.create_campaign({"name": "Summer sale"})
        assert caught.value.may_have_been_applied is False

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"campaign_token": ""}', b'{"campaign_token": 5}', b"[]", b"<p>"])
    def test_an_answer_without_a_token_may_still_have_created(self, batch, hook, body):
        batch.inject(Fault("answer", "create", status=201, body=body))
        with pytest.raises(BatchResponseError) as caught:
            hook.create_campaign(DRAFT)
        assert caught.value.may_have_been_applied

    def test_a_lost_answer_may_have_created(self, batch, hook):
        batch.inject(Fault("reset_after", "create"))
        with pytest.raises(BatchAmbiguousError) as caught:
            hook.create_campaign(DRAFT)
        assert caught.value.may_have_been_applied
        assert len(batch.tokens()) == 1

    def test_one_call_is_one_request(self, batch, hook):
        batch.inject(Fault("answer", "create", status=429))
        with pytest.raises(BatchRateLimitError):
            hook.create_campaign(DRAFT)
        assert len(batch.requests) == 1


@pytest.fixture
def pages_of(monkeypatch):
    """Return a function that sets how many campaigns a page has."""
    return lambda count: monkeypatch.setattr("airflow_batch.hooks.batch.MAX_PAGE", count)


class TestList:
    def test_it_pages_until_a_short_page_and_gives_the_newest_first(self, batch, hook, pages_of):
        pages_of(3)
        created = [batch.add_campaign({**DRAFT, "name": f"Campaign {n}"}) for n in range(7)]
        assert tokens(hook.list_campaigns()) == created[::-1]
        assert [record.query for record in batch.requests] == ["from=0&limit=3", "from=3&limit=3", "from=6&limit=3"]

    def test_a_full_last_page_is_followed_by_one_empty_one(self, batch, hook, pages_of):
        pages_of(2)
        for _ in range(4):
            batch.add_campaign(DRAFT)
        assert len(list(hook.list_campaigns())) == 4
        assert len(batch.requests) == 3

    def test_a_list_without_an_end_is_given_up(self, batch, hook, pages_of, monkeypatch):
        pages_of(2)
        monkeypatch.setattr("airflow_batch.hooks.batch.MAX_PAGES", 3)
        for _ in range(4):
            batch.add_campaign(DRAFT)
        assert len(list(hook.list_campaigns())) == 4
        pages_of(1)
        with pytest.raises(BatchResponseError, match="did not end after 3 pages"):
            list(hook.list_campaigns())

    def test_no_campaign_is_given_twice_when_others_are_created_meanwhile(self, batch, hook, pages_of):
        pages_of(2)
        before = [batch.add_campaign(DRAFT) for _ in range(6)]
        found = []
        for campaign in hook.list_campaigns():
            found.append(campaign["campaign_token"])
            if len(found) % 2 == 0 and len(found) < 6:
                batch.add_campaign(DRAFT)
        assert len(found) == len(set(found))
        assert set(found) >= set(before)

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
    def test_it_filters_as_batch_does(self, batch, hook, filters, names):
        batch.add_campaign({**DRAFT, "name": "draft"})
        batch.add_campaign({**DRAFT, "name": "running", "live": True})
        batch.add_campaign({**DRAFT, "name": "made in the dashboard"}, from_api=False)
        assert [campaign["name"] for campaign in hook.list_campaigns(**filters)] == names

    def test_it_asks_only_as_far_as_it_is_read(self, batch, hook, pages_of):
        pages_of(3)
        for _ in range(9):
            batch.add_campaign(DRAFT)
        campaigns = hook.list_campaigns()
        assert batch.requests == ()
        next(campaigns)
        assert len(batch.requests) == 1

    def test_a_server_that_always_gives_the_same_full_page_does_not_make_it_endless(self, batch, hook, pages_of):
        pages_of(2)
        page = [{"campaign_token": "a"}, {"campaign_token": "b"}]
        batch.inject(Fault("answer", "list", status=200, body=page, times=None))
        assert tokens(hook.list_campaigns()) == ["a", "b"]
        assert len(batch.requests) == 2

    @pytest.mark.parametrize("page", [{}, [{}], ["token"], [{"campaign_token": None}], {"campaigns": []}])
    def test_what_is_no_list_of_campaigns_is_not_read_as_an_empty_one(self, batch, hook, page):
        batch.inject(Fault("answer", "list", status=200, body=page))
        with pytest.raises(BatchResponseError):
            list(hook.list_campaigns())


class TestDelete:
    def test_the_campaign_is_gone(self, batch, hook):
        token = batch.add_campaign(DRAFT)
        assert hook.delete_campaign(token) == 200
        assert batch.tokens() == ()

    def test_a_campaign_that_is_not_there_is_an_error_of_its_own(self, hook):
        with pytest.raises(BatchNotFoundError):
            hook.delete_campaign("0123456789abcdef")

    def test_a_route_is_not_a_token(self, batch, hook):
        with pytest.raises(BatchPayloadError):
            hook.delete_campaign("list")
        assert batch.requests == ()

    def test_a_lost_answer_may_have_deleted(self, batch, hook):
        batch.inject(Fault("reset_after", "delete"))
        with pytest.raises(BatchAmbiguousError) as caught:
            hook.delete_campaign(batch.add_campaign(DRAFT))
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

    def test_rows_come_as_documented_with_their_open_rate(self, batch, hook):
        token = batch.add_campaign(DRAFT)
        batch.set_stats(token, [self.ROW])
        stats = hook.get_campaign_stats(token)
        assert stats["campaign_token"] == token
        assert stats["detail"] == [{**self.ROW, "open_rate": pytest.approx((102 + 98) / 754)}]

    def test_ab_versions_have_open_rates_of_their_own(self, batch, hook):
        token = batch.add_campaign(DRAFT)
        version = {"sent": 10, "sent_optins": 5, "direct_open": 1, "influenced_open": 2, "reengaged": 0}
        batch.set_stats(token, [{**self.ROW, "versions": {"a": version, "b": {**version, "sent": 0}}}])
        (row,) = hook.get_campaign_stats(token)["detail"]
        assert row["versions"]["a"] == {**version, "open_rate": pytest.approx(0.3)}
        assert row["versions"]["b"]["open_rate"] is None

    def test_nothing_sent_is_no_row(self, batch, hook):
        assert hook.get_campaign_stats(batch.add_campaign(DRAFT))["detail"] == []

    def test_a_dev_key_cannot_read_them(self, batch, connect):
        connect(batch.connection(kind="dev"))
        with pytest.raises(BatchApiMisuseError):
            BatchHook().get_campaign_stats(batch.add_campaign(DRAFT))

    @pytest.mark.parametrize("body", [{}, {"detail": None}, {"detail": ["x"]}, []])
    def test_what_is_no_statistics_does_not_pass_for_nothing_sent(self, batch, hook, body):
        batch.inject(Fault("answer", "stats", status=200, body=body))
        with pytest.raises(BatchResponseError):
            hook.get_campaign_stats(batch.add_campaign(DRAFT))


class TestClock:
    def test_before_the_first_answer_the_clocks_are_taken_to_agree(self):
        assert BatchHook().clock_offset == timedelta(0)

    @pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(minutes=-7)])
    def test_the_offset_of_batchs_clock_is_kept_from_the_last_answer(self, connect, ahead):
        with BatchSandbox(clock=lambda: datetime.now(UTC) + ahead) as sandbox:
            connect(sandbox.connection())
            hook = BatchHook()
            list(hook.list_campaigns())
        assert abs(hook.clock_offset - ahead) < timedelta(seconds=3)
        assert abs(hook.batch_now() - datetime.now(UTC) - ahead) < timedelta(seconds=3)

    def test_an_answer_without_a_date_says_nothing(self, batch, hook):
        batch.inject(Fault("answer", "list", status=200, body=[], headers={"Date": "soon"}))
        list(hook.list_campaigns())
        assert hook.clock_offset == timedelta(0)
