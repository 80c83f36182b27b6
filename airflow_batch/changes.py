"""Change one campaign through a hook so that it does no harm: read, judge, send, look again.

What operators, notifiers and the sync share. Knows no Airflow context: when to try again is Airflow's business, whether
a run is too late that of the operators. The rules it judges by are in ``transitions.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_batch.campaigns import (
    ParameterDifference,
    completed,
    difference_rows,
    differences,
    kept_against,
    lost_parameters,
    overlaid,
    request_form,
)
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchError,
    BatchNotFoundError,
    BatchParametersLostError,
    BatchPayloadError,
    BatchRepeatRefusedError,
    BatchResponseError,
    BatchVerificationError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.hooks.settings import TOTAL_TIMEOUT
from airflow_batch.payloads import stops
from airflow_batch.transitions import check_change, check_identity, sends_after, sends_by

log = logging.getLogger(__name__)

REQUEST_TIME = timedelta(seconds=TOTAL_TIMEOUT)
"""A request may take so long; a push time that comes in it may be met by a repeated write."""

Campaign = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a change.

    :param changed: True when the write was confirmed, False when nothing had to be sent, None when an earlier attempt
        may have written.
    :param sent: The payload that was sent, or would have been.
    :param differences: For a dry run, how the campaign would change; else None.
    """

    requested_at: datetime
    completed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    changed: bool | None
    sent: Campaign
    live: bool | None
    name: Any
    http_status: int | None = None
    differences: list[ParameterDifference] | None = None


@dataclass(kw_only=True)
class CampaignChange:
    """One campaign and what should become of it.

    :param wanted: Returns the parameters to set, checked. Asked at the moment of sending.
    :param definition: What the campaign was created from: fills what view does not give, and what is sent where the
        campaign cannot be read.
    :param read: Whether to read the campaign where the key can.
    :param expect_name: Refuse a campaign with another name.
    :param dry_run: Judge and compare, but send nothing.
    :param before_sending: Called with the wanted parameters immediately before each send; may raise.
    :param confirmed: Called once Batch has confirmed the write.
    :param verify: Whether to look at the campaign after the write.
    :param log: Where to say what was done.
    """

    hook: BatchHook
    token: str
    wanted: Callable[[], dict[str, Any]]
    definition: Campaign | None = None
    read: bool = True
    expect_name: str | None = None
    dry_run: bool = False
    before_sending: Callable[[Campaign], None] = lambda wanted: None
    confirmed: Callable[[], object] = lambda: None
    verify: bool = True
    log: logging.Logger = log

    def make(self, *, doubtful: bool = False, last: bool = False) -> Outcome:
        """Make the change, or find that it is not needed.

        :param doubtful: An earlier attempt may have written: look before it is repeated.
        :param last: No attempt follows, so stopping goes ahead where reading fails.
        :raises BatchChangeRefusedError: before anything is sent, for what the campaign is.
        :raises BatchRepeatRefusedError: where a push may have gone out and whether it did cannot be told.
        :raises BatchParametersLostError: when the campaign lacks after the write what it had before.
        :raises BatchVerificationError: when it is not as written.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        seen = self._look(last)
        requested_at = datetime.now(UTC)
        wanted = self.wanted()
        if seen is not None:
            renamed = doubtful and "name" in wanted and seen.get("name") == wanted["name"]
            check_identity(self.token, seen, None if renamed else self.expect_name)
            if doubtful and not self._still_open(wanted, seen):
                self.log.info(
                    "%s is as wanted; an earlier attempt may have written it. Nothing is sent again.", self._title(seen)
                )
                return self._nothing_sent(requested_at, None, wanted, seen)
        if doubtful:
            self._check_repeatable(wanted, seen)
        # Judged by all that would be sent, so also where the campaign cannot be read or its view is not complete.
        known = completed(seen or {}, self.definition or {})
        warning = check_change(self.token, wanted, known, self.hook.batch_now())
        if warning:
            self.log.warning("%s It is probably finished; whether Batch sets it live again is not known.", warning)
        if seen is not None and not differences(wanted, seen) and wanted.get("push_time") != "now":
            self.log.info("%s is %s already. Nothing is sent.", self._title(seen), _said(wanted))
            return self._nothing_sent(requested_at, False, wanted, seen)
        payloads = self._payloads(wanted, seen)
        if self.dry_run:
            return self._only_compared(requested_at, wanted, payloads[0], seen)
        requested_at = datetime.now(UTC)
        try:
            status, sent = self._send(wanted, payloads, seen)
        except BatchResponseError as error:
            if not self._took_effect(wanted, seen):
                raise
            self.log.warning("%s A look at the campaign shows that it took effect.", error)
            status, sent = error.status_code or 200, payloads[0]
        self.confirmed()
        checked = self._verify(wanted, seen)
        self.log.info("%s is now %s: Batch confirmed with %s%s.", self._title(sent), _said(wanted), status, checked)
        return Outcome(
            requested_at=requested_at,
            changed=True,
            sent=sent,
            live=_live(wanted, seen),
            name=sent.get("name"),
            http_status=status,
        )

    def _look(self, last: bool) -> Campaign | None:
        """Return the campaign as it is, None where it cannot be read."""
        if not self.read:
            return None
        try:
            return self.hook.get_campaign(self.token)
        except (BatchApiMisuseError, BatchNotFoundError) as error:
            self.log.info("The campaign cannot be read, so it is neither compared nor checked: %s", error)
        except BatchApiError as error:
            # Stopping must not hang on reading: an answer that will not change, or no answer to the very last attempt.
            gives_up = not error.transient or (last and not error.throttled)
            if not gives_up or not stops(self.wanted()):
                raise
            self.log.warning("Reading the campaign failed; stopping it goes ahead without. %s", error)
        return None

    def _still_open(self, wanted: Campaign, seen: Campaign) -> list[str]:
        """Return what an earlier attempt has not brought about; a push that was to go out now may still be to come."""
        names = differences(wanted, seen)
        if wanted.get("push_time") == "now" and sends_after(seen, self.hook.batch_now() + REQUEST_TIME):
            names.append("push_time")
        return names

    def _check_repeatable(self, wanted: Campaign, seen: Campaign | None) -> None:
        """Stop before a push could go out twice: unless the campaign is seen not to be live."""
        repeated = wanted if seen is not None else self._payloads(wanted, None)[0]
        if not sends_by(repeated, self.hook.batch_now() + REQUEST_TIME):
            return
        if seen is not None and seen.get("live") is False:
            return
        if seen is not None:
            why = f"it is live, but {', '.join(self._still_open(wanted, seen))} is not as wanted"
        else:
            why = "this API key cannot read it" if self.read else "read='never' forbids to look"
        raise BatchRepeatRefusedError(
            f"An earlier attempt to set campaign {self.token!r} live with push_time {_push_time(repeated)} may have "
            f"sent the push, and whether it did cannot be told: {why}. It is not sent again. Look at the campaign in "
            "Batch's dashboard; if nothing was sent, create it anew or give it a push_time in the future.",
            endpoint="update",
            may_have_been_applied=True,
        )

    def _payloads(self, wanted: Campaign, seen: Campaign | None) -> list[dict[str, Any]]:
        """Return what to send, best first. Only stopping has more than one: it is never refused for its definition."""
        minimum = {**({"name": self.expect_name} if self.expect_name else {}), **wanted}
        if seen is None:
            choices = [overlaid(self.definition, wanted)] if self.definition else []
        else:
            viewed = request_form(seen)
            choices = [overlaid(viewed, wanted)]
            if self.definition:
                choices.insert(0, overlaid(completed(viewed, self.definition), wanted))
                differing = kept_against(viewed, self.definition)
                if differing:
                    self.log.warning(
                        "%s differs from its definition in %s: kept as it is in Batch.",
                        self._title(seen),
                        ", ".join(differing),
                    )
            if viewed.get("name"):
                minimum = {"name": viewed["name"], **wanted}
        choices.append(minimum)
        return (
            [choice for index, choice in enumerate(choices) if choice not in choices[:index]]
            if stops(wanted)
            else choices[:1]
        )

    def _send(self, wanted: Campaign, payloads: list[dict[str, Any]], seen: Campaign | None) -> tuple[int, Campaign]:
        for payload in payloads[:-1]:
            self.before_sending(wanted)
            try:
                return self.hook.update_campaign(self.token, payload), payload
            except BatchError as error:
                if not _is_for_its_content(error):
                    raise
                self.log.warning("Stopping must not fail for a definition, so less of it is sent next. %s", error)
        self.before_sending(wanted)
        try:
            return self.hook.update_campaign(self.token, payloads[-1]), payloads[-1]
        except BatchError as error:
            advice = self._advice(wanted, payloads[-1], seen)
            if advice is None or not _is_for_its_content(error):
                raise
            raise error.explained(advice) from None

    def _advice(self, wanted: Campaign, sent: Campaign, seen: Campaign | None) -> str | None:
        """Return what may help where Batch refuses what was sent."""
        if seen is None:
            return (
                None
                if self.definition
                else f"The campaign was not read, so only {', '.join(sent)} was sent. If Batch asks for more, pass "
                "definition=, what the campaign was created from."
            )
        if stops(wanted):
            return None
        filled, instead = (
            (" completed by definition,", "read='never', so that the definition is sent as it is")
            if self.definition
            else ("", "definition=, what the campaign was created from, or read='never' with it")
        )
        return (
            f"What was sent is the campaign as Batch's view gives it,{filled} with the change. If that form is what "
            f"Batch refuses, pass {instead}."
        )

    def _took_effect(self, wanted: Campaign, before: Campaign | None) -> bool:
        """Tell whether a write whose confirmation was unreadable shows in the campaign, which was not so before."""
        if before is None:
            return False
        try:
            return not differences(wanted, self.hook.get_campaign(self.token))
        except BatchApiError as error:
            self.log.warning("Whether the write took effect could not be looked at: %s", error)
            return False

    def _verify(self, wanted: Campaign, before: Campaign | None) -> str:
        """Check the campaign after the write and return what is known of it; a write is not undone by a failed look."""
        if not self.verify:
            return ""
        if before is None:
            return "; it was not read, so this is not checked"
        try:
            after = self.hook.get_campaign(self.token)
        except BatchApiError as error:
            self.log.warning("The write is confirmed, but looking at the campaign afterwards failed: %s", error)
            return ", unchecked"
        lost = lost_parameters(before, after, wanted)
        if lost:
            raise BatchParametersLostError(
                f"Campaign {self.token!r} is {_said(wanted)}, but lost {', '.join(lost[:20])} by the write that Batch "
                "confirmed. Send them again with BatchUpdateCampaignOperator, or restore the campaign in the dashboard."
            )
        live = wanted.get("live")
        if live is not None and after.get("live") is not live and not sends_by(wanted, self.hook.batch_now()):
            raise BatchVerificationError(
                f"Batch confirmed the update of campaign {self.token!r}, but it is still {_said({'live': not live})}."
            )
        other = [name for name in differences(wanted, after) if name not in ("live", "gcm_collapse_key")]
        if other:
            self.log.warning("Batch confirmed the write, but shows another %s than was sent.", ", ".join(other))
        return " and shows it so, with nothing lost"

    def _nothing_sent(self, requested_at: datetime, changed: bool | None, wanted: Campaign, seen: Campaign) -> Outcome:
        return Outcome(
            requested_at=requested_at, changed=changed, sent=wanted, live=_live(wanted, seen), name=seen.get("name")
        )

    def _only_compared(
        self, requested_at: datetime, wanted: Campaign, payload: Campaign, seen: Campaign | None
    ) -> Outcome:
        rows = difference_rows(payload, {} if seen is None else request_form(seen))
        for row in rows:
            self.log.info("Dry run: %s would become %r, it is %r.", row["parameter"], row["wanted"], row["now"])
        self.log.info("Dry run: nothing was sent to %s.", self._title(seen or payload))
        return Outcome(
            requested_at=requested_at,
            changed=False,
            sent=payload,
            live=_live({}, seen),
            name=(seen or payload).get("name"),
            differences=rows,
        )

    def _title(self, campaign: Campaign) -> str:
        about = [repr(campaign["name"])] if isinstance(campaign.get("name"), str) else []
        about += [f"app {self.hook.app!r}"] if self.hook.app else []
        return f"Campaign {self.token!r}" + (f" ({', '.join(about)})" if about else "")


def _said(wanted: Campaign) -> str:
    if "live" in wanted and len(wanted) == 1:
        return "live" if wanted["live"] else "not live"
    return (
        ", ".join(f"{name} {wanted[name]!r}" for name in ("live", "name", "push_time") if name in wanted) or "as wanted"
    )


def _live(wanted: Campaign, seen: Campaign | None) -> bool | None:
    live = wanted.get("live", (seen or {}).get("live"))
    return live if isinstance(live, bool) else None


def _push_time(payload: Campaign) -> str:
    return repr(payload.get("push_time") or payload.get("local_push_time"))


def _is_for_its_content(error: BatchError) -> bool:
    """Tell whether a payload was refused for what it holds, by Batch or before it was sent."""
    return isinstance(error, BatchPayloadError) or (
        isinstance(error, BatchApiError) and error.status_code in (400, 403)
    )
