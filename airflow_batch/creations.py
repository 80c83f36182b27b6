"""Create one campaign once, through a hook, though Batch has no idempotency key and a request may fail in doubt.

Knows no Airflow context: what earlier attempts left is handed in and out as a record, and where it has to wait it says
until when. Finding out whether a creation took effect is all here; changing a campaign is in ``changes.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_batch.campaigns import contradictions
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchError,
    BatchNotFoundError,
    BatchRepeatRefusedError,
    BatchTransientApiError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.hooks.settings import TOTAL_TIMEOUT
from airflow_batch.payloads import payload_digest
from airflow_batch.transitions import read_moment

log = logging.getLogger(__name__)

SETTLE_TIME = 2 * timedelta(seconds=TOTAL_TIMEOUT)
"""How long after a creation the list is asked for it, twice a request's time: ``ASSUMPTIONS["settle_time"]``."""
BETWEEN_LOOKS, AT_LEAST = timedelta(seconds=40), timedelta(seconds=10)
LOOKS = 2
"""How many looks at least must find nothing before a creation is repeated."""
TOLERANCE = timedelta(minutes=5)
"""How far created_date may lie before the request, by the clocks of Batch and of this machine."""
NEWEST = 1_000
"""How many campaigns, newest first, are searched."""
CHECKS = 3
"""How often a repeated creation is checked where Airflow can keep nothing and the task has to wait by itself."""

_TOO_LATE = "created_date"
Record = dict[str, Any]
"""What attempts leave for later ones: ``digest`` and ``name`` of the payload; ``since`` and ``posted_at``, the moments
of the first and the last request, ISO 8601; ``looks`` after it; ``token`` once known, and ``adopted`` where it was
found; ``repeated`` where a second request was sent; ``generation``; ``older``, the tokens that ``force_new`` leaves
aside. Or ``untouched_through``: no attempt up to that one has sent anything that took effect."""


@dataclass(frozen=True)
class Created:
    """The campaign is there. ``changed`` is None where it was found and may be an earlier attempt's."""

    token: str
    changed: bool | None
    http_status: int | None = None


@dataclass(frozen=True)
class LookAgain:
    """Whether the campaign is there cannot be told before ``moment``."""

    moment: datetime


@dataclass(kw_only=True)
class CampaignCreation:
    """One campaign to create.

    :param payload: What to create, checked.
    :param attempt: Number of this attempt; every earlier one may have created it.
    :param since: No attempt began before this moment.
    :param waiting_since: When this attempt first gave its slot back; None when it has not.
    :param record: What earlier attempts left; None where nothing is kept (Airflow below 3.3) or nothing was.
    :param keep: Keeps a record for later attempts; returns False where it cannot.
    :param claimed: Returns the tokens that other tasks are known to have created.
    :param generation: How many attempts were made before the task was last cleared, 0 if never.
    :param force_new: Create again after a clear, though a campaign of before may be there.
    """

    hook: BatchHook
    payload: Mapping[str, Any]
    attempt: int
    since: datetime
    waiting_since: datetime | None = None
    record: Record | None = None
    keep: Callable[[Record | None], bool] = lambda record: False
    claimed: Callable[[], set[str]] = field(default=set)
    generation: int = 0
    force_new: bool = False

    def make(self) -> Created | LookAgain:
        """Create the campaign, or find the one that an earlier attempt created.

        :raises BatchRepeatRefusedError: where it cannot be told whether, or which, and after a repeated request that
            turns out to have made a second one; the message names the tokens.
        :raises BatchApiError: one of its other subclasses, for each failed request.
        """
        digest = payload_digest(self.payload)
        kept = self._kept(digest)
        if kept and kept.get("token"):
            return self._known(kept)
        if not kept and not self._in_doubt:
            return self._create({"digest": digest, "since": _text(datetime.now(UTC)), "repeated": False})
        now = datetime.now(UTC)
        settled = self._settles(kept, now)
        found = self._find(kept)
        if found:
            return self._adopt(found, kept)
        looks = (kept or {}).get("looks", 0) + 1
        if now < settled or (kept and looks < LOOKS):
            if kept:
                self.keep({**kept, "looks": looks})
            again = max(min(now + BETWEEN_LOOKS, max(settled, now)), now + AT_LEAST)
            log.warning(
                "Whether an earlier attempt created %r is not known, and the list does not show it. Looking again at "
                "%s; it is created if it does not show until %s.",
                self.payload.get("name"),
                _text(again),
                _text(max(settled, again)),
            )
            return LookAgain(again)
        log.warning("The list does not show %r from an earlier attempt. Creating it.", self.payload.get("name"))
        since = kept["since"] if kept else _text(self.since)
        return self._create({"digest": digest, "since": since, "repeated": True})

    @property
    def _in_doubt(self) -> bool:
        earlier = self.attempt - 1
        known = (self.record or {}).get("untouched_through")
        return earlier > (self.generation if self.force_new else 0) and known != earlier

    def _kept(self, digest: str) -> Record | None:
        record = self.record or {}
        if record.get("digest") != digest or (self.force_new and record.get("generation") != self.generation):
            return None
        return record

    def _create(self, record: Record) -> Created | LookAgain:
        older = self._older()
        record = {
            **record,
            "name": self.payload.get("name"),
            "posted_at": _text(datetime.now(UTC)),
            "generation": self.generation,
            "older": older,
        }
        if not self.keep(record) and self.record:
            # What is kept would tell the next attempt of another request than this one.
            raise BatchTransientApiError(
                f"Nothing was sent for the creation of {self.payload.get('name')!r}: Airflow's task state store has a "
                "record of an earlier attempt, but did not take one of this.",
                endpoint="create",
            )
        try:
            token = self.hook.create_campaign(self.payload)
        except BatchError as error:
            if not getattr(error, "may_have_been_applied", False):
                self.keep(self.record if record["repeated"] else {"untouched_through": self.attempt, "older": older})
            raise
        log.info("Created campaign %r (%r).", token, self.payload.get("name"))
        record = {**record, "token": token}
        keeps = self.keep(record)
        if not record["repeated"]:
            return Created(token, True, 201)
        return LookAgain(datetime.now(UTC) + SETTLE_TIME) if keeps else self._outlast(record)

    def _outlast(self, record: Record) -> Created:
        """Wait until a repeated request can be checked. The token would be lost if the task gave its slot back."""
        why = ""
        for _ in range(CHECKS):
            log.warning("Airflow keeps nothing between attempts here. Waiting %s to look once more.", SETTLE_TIME)
            time.sleep(SETTLE_TIME.total_seconds())
            try:
                return self._only_one(record)
            except BatchApiError as error:
                if isinstance(error, BatchRepeatRefusedError):
                    raise
                why = str(error)
                if not error.transient or (error.retry_after or 0) > SETTLE_TIME.total_seconds():
                    break
        raise self._refusal(
            f"a second request has created {record['token']!r}, and whether the first one took effect as well cannot "
            f"be told ({why}). Look in Batch's dashboard, and delete one if there are two"
        )

    def _known(self, kept: Record) -> Created | LookAgain:
        """Return the campaign whose token an earlier attempt has kept."""
        token = kept["token"]
        if kept["repeated"]:
            requests = 2 if kept.get("adopted") else 1
            return self._until_settled(kept, requests) or self._only_one(kept)
        if kept.get("generation") != self.generation:
            self._check_there(token)
        log.info("Campaign %r was created by an earlier attempt. Nothing is sent again.", token)
        return Created(token, None if kept.get("adopted") else True)

    def _only_one(self, kept: Record) -> Created:
        """Return the campaign of a repeated request, once nothing shows that the first one took effect as well."""
        token = kept["token"]
        try:
            compared = self._compared(kept)
        except BatchRepeatRefusedError as error:
            raise error.explained(f"A second request has created {token!r}.") from None
        others = [other for other, names in compared.items() if other != token and set(names) <= {_TOO_LATE}]
        if others:
            raise self._refusal(
                f"two requests have created it: {token!r}, and {_listed(others)}, which took effect later than "
                f"{SETTLE_TIME.total_seconds():.0f} s after it was sent. Delete one of them before either goes live"
            )
        self.keep({**kept, "repeated": False})
        return Created(token, None) if kept.get("adopted") else Created(token, True, 201)

    def _adopt(self, found: list[str], kept: Record | None) -> Created | LookAgain:
        if len(found) > 1:
            raise self._refusal(
                f"several campaigns may be it: {_listed(found)}. Delete the wrong ones and clear the task"
            )
        if self.force_new and self.generation and not kept:
            raise self._refusal(
                f"{found[0]!r} may be the one that force_new is to create, or an older one. Use it or delete it"
            )
        (token,) = found
        if not kept and not self.force_new and (self.record or {}).get("digest"):
            raise self._refusal(
                f"{token!r} may be of another payload, which an earlier attempt sent. Use it or delete it"
            )
        # Of several requests one more may take effect, as late after the last as the last was sent after the first.
        several = kept["repeated"] if kept else self.attempt > 2
        if kept:
            self.keep({**kept, "token": token, "adopted": True, "repeated": several})
        again = self._until_settled(kept, 2) if several else None
        if again:
            log.warning("Found %r. Looking again at %s whether it is the only one.", token, _text(again.moment))
            return again
        if kept and several:
            return self._only_one({**kept, "token": token, "adopted": True})
        log.warning(
            "An earlier attempt has created campaign %r (%r): found in the list and adopted. Nothing is sent again.",
            token,
            self.payload.get("name"),
        )
        return Created(token, None)

    def _until_settled(self, kept: Record | None, requests: int) -> LookAgain | None:
        """Return when all of that many doubtful requests show, if that is not past."""
        now = datetime.now(UTC)
        settled = self._settles(kept, now, requests)
        return LookAgain(max(settled, now + AT_LEAST)) if now < settled else None

    def _settles(self, kept: Record | None, now: datetime, requests: int = 1) -> datetime:
        return (_moment(kept, "posted_at") or self.waiting_since or now) + requests * SETTLE_TIME

    def _older(self) -> list[str]:
        """Return the campaigns that ``force_new`` leaves aside."""
        record = self.record or {}
        if not self.force_new:
            return []
        left = record.get("token") if record.get("generation") != self.generation else None
        return [*record.get("older", ()), *([left] if left else [])]

    def _find(self, kept: Record | None) -> list[str]:
        """Return the campaigns that an earlier attempt may have created, as far as nobody else has claimed them."""
        compared = self._compared(kept)
        alike = [token for token, names in compared.items() if not names]
        if compared and not alike:
            told = "; ".join(f"{token!r} in {', '.join(names)}" for token, names in list(compared.items())[:5])
            raise self._refusal(
                f"a campaign of this name was created meanwhile, but differs from the payload: {told}. Use it, or "
                "delete it and clear the task"
            )
        return alike

    def _compared(self, kept: Record | None) -> dict[str, list[str]]:
        """Return the unclaimed campaigns of this name, with what tells each from the one to be created."""
        named = self._named_alike(_moment(kept, "since") or self.since, kept)
        if not named:
            return {}
        others = self.claimed() | set((self.record or {}).get("older", ()) if self.force_new else ())
        posted = _moment(kept, "posted_at")
        last = posted and posted + self.hook.clock_offset + SETTLE_TIME + TOLERANCE
        return {
            token: ([_TOO_LATE] if last and created > last else []) + self._differing(token)
            for token, created in named.items()
            if token not in others
        }

    def _named_alike(self, since: datetime, kept: Record | None) -> dict[str, datetime]:
        names = {self.payload.get("name"), None if kept else (self.record or {}).get("name")} - {None}
        named: dict[str, datetime] = {}
        try:
            for count, item in enumerate(self.hook.list_campaigns(from_api=True)):
                created = read_moment(item.get("created_date"))
                if created is not None and created < since + self.hook.clock_offset - TOLERANCE:
                    break
                if count >= NEWEST:
                    raise self._refusal(
                        f"more than {NEWEST} campaigns were created since {_text(since)}, too many to look through"
                        + (f"; it may be {_listed(list(named))}" if named else "")
                    )
                if item.get("name") in names and item.get("from_api") is not False:
                    if created is None:
                        raise self._refusal(
                            f"{item['campaign_token']!r} has its name, and Batch does not say when it was created"
                        )
                    named[item["campaign_token"]] = created
        except (BatchApiMisuseError, BatchNotFoundError) as error:
            raise self._refusal(
                "this API key cannot list campaigns. Look in Batch's dashboard, and use or delete what is there "
                f"({error})"
            ) from None
        return named

    def _differing(self, token: str) -> list[str]:
        try:
            seen = self.hook.get_campaign(token)
        except (BatchApiMisuseError, BatchNotFoundError):
            return []
        # Only a Live key can view, and what it creates is for all builds: this one is another environment's.
        foreign = ["dev_only"] if seen.get("dev_only") is True else []
        return contradictions(self.payload, seen) + foreign

    def _check_there(self, token: str) -> None:
        try:
            self.hook.get_campaign(token)
        except BatchApiMisuseError:
            return
        except BatchNotFoundError:
            raise self._refusal(f"it was, as {token!r}, which Batch does not know any more") from None

    def _refusal(self, why: str) -> BatchRepeatRefusedError:
        return BatchRepeatRefusedError(
            f"An earlier attempt may have created the campaign {self.payload.get('name')!r}, and it is not created "
            f"again: {why}. To create it again after a clear, set force_new=True.",
            endpoint="create",
            may_have_been_applied=True,
        )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _moment(record: Record | None, name: str) -> datetime | None:
    return read_moment((record or {}).get(name))


def _listed(tokens: list[str]) -> str:
    return ", ".join(map(repr, tokens[:5])) + (f" and {len(tokens) - 5} more" if len(tokens) > 5 else "")
