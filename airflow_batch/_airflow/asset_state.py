"""What an event trigger keeps for its asset, in Airflow's asset state store (3.3 and later), else in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AssetState:
    """The campaigns that an event trigger has seen in the state that it watches for.

    :param store: ``BaseEventTrigger.asset_state_store``; None on Airflow 3.1 and 3.2, where nothing outlives the
        trigger.
    :param key: Identifies the trigger among those of its asset.
    """

    def __init__(self, store: Any, key: str) -> None:
        self._key = key
        self._number = 0
        self._memory: frozenset[str] | None = None
        # Airflow runs watchers with the same arguments as one trigger, with a store for each of their assets, and has
        # no public way to list them.
        by_asset = {**getattr(store, "_by_name", {}), **getattr(store, "_by_uri", {})}
        self._stores = [by_asset[name] for name in sorted(by_asset)] or ([] if store is None else [store])

    async def load(self) -> frozenset[str] | None:
        """Return what was saved last, None where nothing was."""
        for store in self._stores:
            saved = await store.aget(self._key)
            # An asset that began to use the trigger later has nothing, or something older.
            if isinstance(saved, dict) and saved["number"] > self._number:
                self._number, self._memory = saved["number"], frozenset(saved["campaigns"])
        return self._memory

    async def save(self, campaigns: Iterable[str]) -> None:
        """Replace what was saved. Raises what the first store raises."""
        saved = frozenset(campaigns)
        for store in self._stores:
            await store.aset(self._key, {"number": self._number + 1, "campaigns": sorted(saved)})
        self._number, self._memory = self._number + 1, saved
