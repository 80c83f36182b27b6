"""Which campaigns should be live now: desired states that change with time (rules 3 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from airflow_batch._campaigns import rules
from airflow_batch._campaigns.plan import desired_now
from airflow_batch._campaigns.protocol import Clock
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import SETTLE_TIME, Clocks
from airflow_batch._sync.desired import DesiredCampaign
from airflow_batch.exceptions import BatchClockError


class DesiredStates:
    """The desired state of each campaign, by its index, at the moment of the question.

    :param batch_now: Returns the present moment by Batch's clock, for an app.
    :param at: The moment by which schedules are evaluated; None for the present one.
    :param latest_on: Moment after which no fixed ``live: true`` is sent any more.
    """

    def __init__(
        self,
        campaigns: Sequence[DesiredCampaign],
        clock: Clock,
        batch_now: Callable[[str | None], datetime],
        *,
        run_after: datetime | None,
        at: datetime | None,
        latest_on: datetime | None,
    ) -> None:
        self.campaigns = campaigns
        self._clock, self._batch_now, self._run_after = clock, batch_now, run_after
        self.requests = [_request(campaign, at, latest_on) for campaign in campaigns]
        self.noted: dict[int, bool] = {}
        """The desired state of each campaign with a window when it was last read."""

    def is_to_be_live(self, index: int) -> bool:
        """Return the desired state at this moment.

        :raises BatchClockError: where the clocks disagree about a window's opening.
        """
        clocks = Clocks(self._clock.now(), self._batch_now(self.campaigns[index].app))
        return desired_now(self.requests[index], clocks, self._run_after)[0]["live"] is True

    def is_on(self, index: int) -> bool:
        """Return whether it is no stop: as :meth:`is_to_be_live`, and also where the clocks disagree."""
        try:
            return self.is_to_be_live(index)
        except BatchClockError:
            return True

    def note(self, index: int) -> None:
        """Note the desired state of a campaign with a window: it is about to be read."""
        if not isinstance(self.requests[index].live, bool):
            self.noted[index] = self.is_on(index)

    def changed(self) -> set[int]:
        """Return the campaigns whose window has opened or closed since they were read (rule 7)."""
        return {index for index, live in self.noted.items() if self.is_on(index) is not live}

    def may_have_changed(self, index: int) -> bool:
        """Return whether the desired state may have been another one since the run's first attempt."""
        soon = self._clock.now() + SETTLE_TIME  # It may change during the read.
        return rules.may_have_flipped(self.requests[index].live, self._run_after, soon)


def _request(campaign: DesiredCampaign, at: datetime | None, latest_on: datetime | None) -> ChangeRequest:
    live = campaign.live
    is_fixed = isinstance(live, bool)
    if not isinstance(live, bool) and at is not None:
        live = live.is_live_at(at)
    return ChangeRequest(
        token=campaign.token,
        live=live,
        definition=campaign.definition,
        expect_name=campaign.expect_name,
        approval=campaign.approval,
        verify="always",
        latest_on=latest_on if is_fixed else None,
    )
