"""What the operators that change a campaign share: they run a change of ``changes.py`` as a task of Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch.campaigns import read_reference
from airflow_batch.changes import CampaignChange
from airflow_batch.compat import recall, remember
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError
from airflow_batch.operators.base import BatchOperator
from airflow_batch.payloads import check_payload, shown, stops
from airflow_batch.policies.retry import MAX_WAIT, MAX_WAIT_TO_STOP
from airflow_batch.results import CampaignResult
from airflow_batch.runs import name_index

if TYPE_CHECKING:
    from airflow.sdk import Context

WROTE = "airflow_batch_wrote"


class BatchChangeOperator(BatchOperator):
    """Base of the operators that change a campaign. Their arguments are told at BatchSetCampaignLiveOperator."""

    action: ClassVar[str]
    json_fields: ClassVar[tuple[str, ...]] = ("definition",)

    def __init__(
        self,
        *,
        campaign: Any,
        definition: Any = None,
        read: Literal["auto", "never"] = "auto",
        expect_name: str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if read not in ("auto", "never"):
            raise BatchConfigurationError(f"read must be 'auto' or 'never', not {shown(read)}.")
        self.campaign = campaign
        self.definition = definition
        self.read = read
        self.expect_name = expect_name
        self.only_compare = dry_run

    def execute(self, context: Context) -> CampaignResult:
        """Make the change and return its result."""
        token, app = read_reference(self.campaign)
        wanted = self.wanted(context)
        change = CampaignChange(
            hook=self.hook_for(app),
            token=token,
            wanted=lambda: self.wanted(context),
            definition=self._definition(context, stopping=stops(wanted)),
            read=self.read == "auto",
            expect_name=self.expect_name or None,
            dry_run=self.only_compare,
            before_sending=lambda wanted: self.check_in_time(context, wanted),
            confirmed=lambda: remember(context, WROTE, True),
        )
        name_index(context, change.hook.app, self.expect_name or token)
        ti = context["ti"]
        outcome = self.give_way(
            context,
            self.max_wait or (MAX_WAIT_TO_STOP if stops(wanted) else MAX_WAIT),
            lambda: change.make(doubtful=self.may_have_been_applied(context), last=ti.try_number > ti.max_tries),
        )
        name_index(context, change.hook.app, outcome.name or token)
        if outcome.changed is None and recall(context, WROTE) is True:
            outcome = replace(outcome, changed=True)
        action = "dry_run" if self.only_compare else self.action
        return self.result_of(context, outcome, token=token, app=change.hook.app, action=action)

    def wanted(self, context: Context) -> dict[str, Any]:
        """Return the parameters to set at this moment."""
        raise NotImplementedError

    def check_in_time(self, context: Context, wanted: Mapping[str, Any]) -> None:
        """Skip the task where it is too late to send."""

    def _definition(self, context: Context, *, stopping: bool) -> dict[str, Any] | None:
        if self.definition in (None, "", "None"):  # what a template may have made of nothing
            return None
        try:
            return check_payload(self.read_json("definition", context), "definition")
        except BatchPayloadError as error:
            if not stopping:
                raise
            self.log.warning("Stopping goes ahead without the definition. %s", error)
            return None
