"""What an event trigger keeps for its asset, in Airflow's asset state store (3.3 and later), else in memory.

Airflow cannot store an event and a record of it together, so one follows the other, as closely as possible: the
triggerer's process hands its events to its supervisor about once a second, and the supervisor answers one request at a
time and stores the events before the next. A record that is sent right after the event was handed over is written right
after it was stored, a few hundredths of a second later. A triggerer that dies before has stored neither, or, in these
hundredths, the event alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pydantic import PrivateAttr, RootModel, model_serializer

log = logging.getLogger(__name__)

MAX_HANDOVER_SECONDS = 10.0
"""Seconds after which an event counts as handed over that Airflow does not encode as expected."""


class Handover(RootModel[str]):
    """A text in an event that notes when Airflow encodes the event, which is when it hands it over."""

    _encoded: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    @model_serializer
    def _encode(self) -> str:
        self._encoded.set()
        return self.root

    async def wait(self) -> None:
        """Return once the event was handed over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._encoded.wait(), MAX_HANDOVER_SECONDS)


class AssetState:
    """The campaigns that an event trigger has seen in the state that it watches for.

    :param store: ``BaseEventTrigger.asset_state_store``; None on Airflow 3.1 and 3.2, where nothing outlives the
        trigger.
    :param key: Identifies the trigger among those of its asset.
    """

    def __init__(self, store: Any, key: str) -> None:
        self._key = key
        self._number = 0
        self.latest: frozenset[str] | None = None
        """What was loaded or saved last; None before."""
        self.is_unsaved = False
        self._has_failed = False
        # Airflow runs watchers with the same arguments as one trigger, with a store for each of their assets, and has
        # no public way to list them.
        by_asset = {**getattr(store, "_by_name", {}), **getattr(store, "_by_uri", {})}
        self._stores = [by_asset[name] for name in sorted(by_asset)] or ([] if store is None else [store])

    @property
    def outlives_the_trigger(self) -> bool:
        """Whether there is a store."""
        return bool(self._stores)

    async def load(self) -> bool:
        """Read what was saved last into :attr:`latest`. Return whether that was possible.

        Another triggerer may have saved something since.
        """
        if self.is_unsaved:
            return True
        try:
            for store in self._stores:
                saved = await store.aget(self._key)
                # An asset that began to use the trigger later has nothing, or something older.
                if isinstance(saved, dict) and saved["number"] > self._number:
                    self._number, self.latest = saved["number"], frozenset(saved["campaigns"])
        except Exception as error:
            self._report(error, "No event is fired until it works again.")
            return False
        return True

    async def save(self, campaigns: Iterable[str]) -> None:
        """Replace what was saved, in :attr:`latest` in any case."""
        latest = frozenset(campaigns)
        if latest == self.latest and not self.is_unsaved:
            return
        self.latest = latest
        try:
            for store in self._stores:
                await store.aset(self._key, {"number": self._number + 1, "campaigns": sorted(latest)})
        except Exception as error:
            self.is_unsaved = True
            self._report(error, "Until it works again, a restart of the triggerer could repeat an event.")
            return
        self._number, self.is_unsaved, self._has_failed = self._number + 1, False, False

    def _report(self, error: Exception, effect: str) -> None:
        if not self._has_failed:
            log.error("Airflow's asset state store fails: %s. %s", type(error).__name__, effect)
        self._has_failed = True
