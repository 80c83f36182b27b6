"""What a change does when Batch throttles it, and when it reads the campaign again: one attempt, with the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from task import Store, context_of

from airflow_batch._airflow.compat import AirflowRescheduleException
from airflow_batch.exceptions import BatchParametersLostError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator, BatchUpdateCampaignOperator
from airflow_batch.sandbox import Fault
from airflow_batch.windows import CampaignWindow

DEFINITION = {
    "name": "Summer sale",
    "live": False,
    "push_time": "2099-06-01T09:00:00",
    "messages": [{"language": "en", "body": "Hi"}],
}


def switch(sandbox, live, *, was=None, reschedules=0, max_tries=6, store=None, map_index=-1, **arguments):
    """Run one attempt on a new campaign; return it, and the requests that it made."""
    token = sandbox.add_campaign({**DEFINITION, "live": (not live) if was is None else was})
    task = BatchSetCampaignLiveOperator(task_id="toggle", campaign=token, live=live, **arguments)
    try:
        task.execute(context_of(task, reschedules=reschedules, max_tries=max_tries, store=store, map_index=map_index))
    finally:
        requests = [record.operation for record in sandbox.requests]
    return sandbox.campaign(token)["live"], requests


def throttle(sandbox, operation, *retry_after, times=1):
    headers = {"Retry-After": str(retry_after[0])} if retry_after else {}
    sandbox.inject(Fault("answer", operation, status=429, headers=headers, times=times))


class TestShortThrottle:
    def test_a_throttled_write_is_waited_out_in_the_slot_and_planned_anew(self, batch, clock, capsys):
        throttle(batch, "update")
        assert switch(batch, True) == (True, ["view", "update", "view", "update"])
        slept, spacing = clock.slept
        assert 5 <= slept <= 7
        assert spacing == 1
        log = capsys.readouterr().out
        assert "checked: no (Batch throttles this task)" in log
        assert "not compared: Batch throttles this task" in log

    def test_a_throttled_read_is_waited_out_in_the_slot_and_repeated(self, batch, clock):
        throttle(batch, "view")
        assert switch(batch, True) == (True, ["view", "view", "update"])
        assert len(clock.slept) == 2

    def test_with_read_never_the_read_for_batchs_date_is_waited_out_in_the_slot_as_well(self, batch, clock):
        throttle(batch, "view")
        assert switch(batch, True, read="never", definition=DEFINITION) == (True, ["view", "update"])
        assert len(clock.slept) == 2

    def test_a_throttled_check_of_a_partial_stop_is_rescheduled(self, sandbox_with, clock):
        def on_record(record):
            if record.operation == "update" and record.status == 200:
                throttle(sandbox, "view", 40, times=3)

        sandbox = sandbox_with(on_record=on_record)
        sandbox.inject(Fault("answer", "update", status=400))
        with pytest.raises(AirflowRescheduleException):
            switch(sandbox, False, store=Store())

    def test_a_stop_that_is_throttled_says_that_it_was_not_checked_without_a_warning(self, batch, clock, capsys):
        throttle(batch, "update")
        assert switch(batch, False) == (False, ["view", "update", "view", "update"])
        log = capsys.readouterr().out
        assert "checked: no" in log
        assert "not compared" not in log

    def test_a_second_throttle_in_the_same_attempt_frees_the_slot(self, batch, clock):
        throttle(batch, "update", times=2)
        with pytest.raises(AirflowRescheduleException):
            switch(batch, True)
        assert [record.operation for record in batch.requests] == ["view", "update", "view", "update"]
        assert len(clock.slept) == 2

    def test_a_mapped_task_frees_its_slot_for_its_siblings_at_once(self, batch, clock):
        throttle(batch, "update")
        with pytest.raises(AirflowRescheduleException):
            switch(batch, True, map_index=3)
        assert [record.operation for record in batch.requests] == ["view", "update"]
        assert clock.slept == []

    def test_a_mapped_task_that_was_rescheduled_waits_in_its_slot(self, batch, clock):
        throttle(batch, "view")
        assert switch(batch, True, map_index=3, reschedules=1) == (True, ["view", "view", "update"])

    def test_a_rescheduled_task_leaves_a_second_between_its_read_and_its_write(self, batch, clock):
        assert switch(batch, True, reschedules=1) == (True, ["view", "update"])
        assert clock.slept == [1]

    def test_a_wait_of_more_than_eight_seconds_frees_the_slot_at_once(self, batch, clock):
        throttle(batch, "update", 9)
        with pytest.raises(AirflowRescheduleException):
            switch(batch, True)
        assert clock.slept == []

    def test_nothing_is_sent_before_the_wait_that_batch_asks_for(self, batch, clock):
        throttle(batch, "update", 8)
        assert switch(batch, True)[0] is True
        assert 8 <= clock.slept[0] <= 10

    def test_a_maintenance_frees_the_slot_at_once(self, batch, clock):
        batch.inject(Fault("answer", "update", status=503, body={"code": 2, "message": "MAINTENANCE"}))
        with pytest.raises(AirflowRescheduleException):
            switch(batch, True)
        assert clock.slept == []

    @pytest.mark.parametrize(
        ("reschedules", "requests"), [(0, ["view", "update", "view"]), (1, ["view"])], ids=["long wait", "one second"]
    )
    def test_the_desired_state_is_computed_again_after_a_wait(self, batch, clock, reschedules, requests):
        """The window closes during the wait, so its "on" is not sent any more."""
        closes = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=2)
        start, end = closes - timedelta(hours=1), closes
        window = CampaignWindow(start=start.replace(second=0), end=end.replace(second=0), timezone="UTC")
        throttle(batch, "update")
        clock.while_asleep = lambda seconds: clock.move(timedelta(minutes=3))
        assert switch(batch, window, was=False, reschedules=reschedules) == (False, requests)

    def test_after_a_reschedule_the_check_is_left_out_as_well(self, batch):
        assert switch(batch, True, reschedules=1) == (True, ["view", "update"])

    def test_a_rescheduled_task_comes_back_after_ten_to_thirty_seconds(self, batch, clock):
        for reschedules in (0, 1, 5, 50):
            throttle(batch, "update", times=2)
            with pytest.raises(AirflowRescheduleException) as caught:
                switch(batch, True, reschedules=reschedules)
            seconds = (caught.value.reschedule_date - datetime.now(UTC)).total_seconds()
            assert 9 <= seconds <= 31


class TestCheck:
    @pytest.mark.parametrize(
        ("live", "verify", "requests"),
        [
            (True, "auto", ["view", "update", "view"]),
            (True, "always", ["view", "update", "view"]),
            (True, "never", ["view", "update"]),
            (False, "auto", ["view", "update"]),
            (False, "always", ["view", "update", "view"]),
            (False, "never", ["view", "update"]),
        ],
    )
    def test_an_on_is_checked_and_a_stop_of_the_whole_campaign_is_not_unless_verify_says_so(
        self, batch, live, verify, requests
    ):
        assert switch(batch, live, verify=verify) == (live, requests)

    def test_an_update_is_checked(self, batch):
        token = batch.add_campaign(DEFINITION)
        task = BatchUpdateCampaignOperator(task_id="update", campaign=token, payload={"name": "New name"})
        task.execute(context_of(task))
        assert [record.operation for record in batch.requests] == ["view", "update", "view"]

    def test_a_stop_by_its_definition_is_checked_where_the_campaign_can_be_read_afterwards(self, batch):
        batch.inject(Fault("answer", "view", status=500, times=4))
        live, requests = switch(batch, False, definition=DEFINITION, max_tries=0)
        assert live is False
        assert requests[-2:] == ["update", "view"]

    def test_the_log_of_an_unchecked_stop_says_so(self, batch, capsys):
        switch(batch, False)
        assert "is now not live: Batch confirmed with 200; checked: no (a stop of all that was read)" in (
            capsys.readouterr().out
        )


class TestNothingIsSentBeforeBatchAllowsIt:
    """After a lost answer or a confirmed write, no request follows a throttled read before its wait has passed."""

    def gaps(self, sandbox):
        """Return the seconds from each 429 to the next request."""
        records = sandbox.requests
        return [(b.time - a.time).total_seconds() for a, b in pairwise(records) if a.status == 429]

    def test_a_stop_whose_answer_was_lost_is_repeated_after_the_wait_of_a_throttled_read(self, sandbox_with, clock):
        def on_record(record):
            if record.operation == "update" and len(sandbox.requests) < 4:
                throttle(sandbox, "view", 40, times=2)

        sandbox = sandbox_with(on_record=on_record)
        sandbox.inject(Fault("reset_before", "update"))
        live, requests = switch(sandbox, False)
        assert live is False
        assert requests.count("update") == 2
        assert min(self.gaps(sandbox)) >= 40

    def test_a_stop_of_a_campaign_without_messages_fails_also_where_it_is_not_checked(self, batch, clock):
        token = batch.add_campaign({**DEFINITION, "live": True})
        batch.inject(Fault("answer", "view", status=200, body={"campaign_token": token, "name": "Sale", "live": True}))
        task = BatchSetCampaignLiveOperator(task_id="stop", campaign=token, live=False, verify="never")
        with pytest.raises(BatchParametersLostError, match="messages"):
            task.execute(context_of(task))
        assert batch.campaign(token)["live"] is False

    def test_what_somebody_edits_during_the_short_wait_is_kept(self, batch, clock):
        token = batch.add_campaign({**DEFINITION, "live": True})
        throttle(batch, "update")
        clock.while_asleep = lambda seconds: BatchHook().update_campaign(token, {**DEFINITION, "live": False})
        task = BatchUpdateCampaignOperator(task_id="rename", campaign=token, payload={"name": "New name"})
        task.execute(context_of(task))
        assert batch.campaign(token)["live"] is False
