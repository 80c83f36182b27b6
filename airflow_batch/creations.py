"""Create one campaign once, through a hook, though Batch has no idempotency key and a request may fail in doubt.

Knows no Airflow context: what earlier attempts left is handed in and out as a record, and where it has to wait it says
until when. Finding out whether a creation took effect is all here; changing a campaign is in ``changes.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from airflow_batch.campaigns import contradictions
from airflow_batch.exceptions import (
    BatchApiError,
    BatchApiMisuseError,
    BatchError,
    BatchNotFoundError,
    BatchRepeatRefusedError,
)
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.payloads import payload_digest
from airflow_batch.transitions import read_moment

log = logging.getLogger(__name__)

SETTLE_TIME = timedelta(minutes=2)
"""How long after a creation the list is asked for it, twice a request's time: ``ASSUMPTIONS["settle_time"]``."""
BETWEEN_LOOKS, AT_LEAST = timedelta(seconds=40), timedelta(seconds=10)
LOOKS = 2
"""How many looks at least must find nothing before a creation is repeated."""
TOLERANCE = timedelta(minutes=5)
"""How far created_date may lie before the request, by the clocks of Batch and of this machine."""
NEWEST = 1_000
"""How many campaigns, newest first, are searched."""

Record = dict[str, Any]
"""What attempts leave for later ones: ``digest`` of the payload; ``since`` and ``posted_at``, the moments of the first
and the last request, ISO 8601; ``looks`` after it; ``token`` once known; ``repeated`` where a second request was sent;
``generation``. Or ``untouched_through`` alone: no attempt up to that one has sent anything that took effect."""


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
            return self._create({"digest": digest, "since": _text(datetime.now(UTC)), "repeated": False}, None)
        now = datetime.now(UTC)
        found = self._find(_moment(kept, "since") or self.since)
        if found:
            return self._adopt(found, kept)
        looks = (kept or {}).get("looks", 0) + 1
        settled = (_moment(kept, "posted_at") or self.waiting_since or now) + SETTLE_TIME
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
        return self._create({"digest": digest, "since": since, "repeated": True}, kept)

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

    def _create(self, record: Record, before: Record | None) -> Created | LookAgain:
        record = {**record, "posted_at": _text(datetime.now(UTC)), "generation": self.generation}
        keeps = self.keep(record)
        try:
            token = self.hook.create_campaign(self.payload)
        except BatchError as error:
            if not getattr(error, "may_have_been_applied", False):
                self.keep(before if record["repeated"] else {"untouched_through": self.attempt})
            raise
        log.info("Created campaign %r (%r).", token, self.payload.get("name"))
        record = {**record, "token": token}
        self.keep(record)
        if not record["repeated"]:
            return Created(token, True, 201)
        if keeps:
            return LookAgain(datetime.now(UTC) + SETTLE_TIME)
        # Without a record the token would be lost with this attempt, so nothing is waited for.
        try:
            return self._only_one(record)
        except BatchRepeatRefusedError:
            raise
        except BatchApiError as error:
            log.warning("Whether the first request has created a second campaign cannot be checked: %s", error)
            return Created(token, True, 201)

    def _known(self, kept: Record) -> Created | LookAgain:
        """Return the campaign whose token an earlier attempt has kept."""
        token = kept["token"]
        if kept["repeated"]:
            settled = (_moment(kept, "posted_at") or datetime.now(UTC)) + SETTLE_TIME
            return LookAgain(settled) if datetime.now(UTC) < settled else self._only_one(kept)
        if kept.get("generation") != self.generation:
            self._check_there(token)
        log.info("Campaign %r was created by an earlier attempt. Nothing is sent again.", token)
        return Created(token, True)

    def _only_one(self, kept: Record) -> Created:
        """Return the campaign of a repeated request, once nothing shows that the first one took effect as well."""
        token = kept["token"]
        others = [other for other in self._find(_moment(kept, "since") or self.since) if other != token]
        if others:
            raise self._refusal(
                f"two requests have created it: {token!r}, and {_listed(others)}, which took effect later than "
                f"{SETTLE_TIME.total_seconds():.0f} s after it was sent. Delete one of them before either goes live"
            )
        self.keep({**kept, "repeated": False})
        return Created(token, True, 201)

    def _adopt(self, found: list[str], kept: Record | None) -> Created:
        if len(found) > 1:
            raise self._refusal(
                f"several campaigns may be it: {_listed(found)}. Delete the wrong ones and clear the task"
            )
        if self.force_new and not kept:
            raise self._refusal(
                f"{found[0]!r} may be the one that force_new is to create, or an older one. Use it or delete it"
            )
        (token,) = found
        log.warning(
            "An earlier attempt has created campaign %r (%r): found in the list and adopted. Nothing is sent again.",
            token,
            self.payload.get("name"),
        )
        if kept:
            self.keep({**kept, "token": token, "repeated": False})
        return Created(token, None)

    def _find(self, since: datetime) -> list[str]:
        """Return the campaigns that an earlier attempt may have created, as far as nobody else has claimed them."""
        named = self._named_alike(since)
        if not named:
            return []
        claimed = self.claimed()
        differing = {token: self._differing(token) for token in named if token not in claimed}
        alike = [token for token, differences in differing.items() if not differences]
        if differing and not alike:
            told = "; ".join(f"{token!r} in {', '.join(names)}" for token, names in list(differing.items())[:5])
            raise self._refusal(
                f"a campaign of this name was created meanwhile, but differs from the payload: {told}. Use it, or "
                "delete it and clear the task"
            )
        return alike

    def _named_alike(self, since: datetime) -> list[str]:
        tokens = []
        try:
            for item in islice(self.hook.list_campaigns(from_api=True), NEWEST):
                created = read_moment(item.get("created_date"))
                if created is not None and created < since + self.hook.clock_offset - TOLERANCE:
                    break
                if item.get("name") == self.payload.get("name"):
                    tokens.append(item["campaign_token"])
        except (BatchApiMisuseError, BatchNotFoundError) as error:
            raise self._refusal(
                "this API key cannot list campaigns. Look in Batch's dashboard, and use or delete what is there "
                f"({error})"
            ) from None
        return tokens

    def _differing(self, token: str) -> list[str]:
        try:
            return contradictions(self.payload, self.hook.get_campaign(token))
        except (BatchApiMisuseError, BatchNotFoundError):
            return []

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
