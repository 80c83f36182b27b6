"""The rows of a campaign's stats: those a test sets, and those the sandbox generates. Pure: no clock, no HTTP.

Belongs here: the shape of a row and the numbers in it. Does not belong here: when a campaign is sent (state.py).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

Row = dict[str, Any]
SENT_LEAST, SENT_MOST = 50, 500


def checked_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a deep copy of rows as they are given. Raises ValueError unless each is an object with a `date`, as JSON.

    Nothing else is checked: a test may want a server that leaves counters out or has others.
    """
    taken = []
    for row in rows:
        if not isinstance(row, Mapping) or not isinstance(row.get("date"), str):
            raise ValueError("stats: each row is an object with a date as text")
        taken.append(copy.deepcopy(dict(row)))
    try:
        json.dumps(taken, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"stats: a row must be JSON ({error})") from error
    return taken


def generated_row(day: date, *, seed: str, versions: bool) -> Row:
    """Return the row of a send date, small numbers that the seed repeats; with `versions` that of an A/B campaign.

    The shapes are those of the stats page: an A/B row has no `sent_optins`, a version no `date` and no `errors`.
    """
    source = random.Random(seed)
    parts = [_counters(source) for _ in range(2 if versions else 1)]
    row: Row = {"date": day.isoformat(), **{name: sum(part[name] for part in parts) for name in parts[0]}}
    row["errors"] = source.randint(0, 5)
    if versions:
        del row["sent_optins"]
        row["versions"] = dict(zip("ab", parts, strict=True))
    return row


def _counters(source: random.Random) -> dict[str, int]:
    sent = source.randint(SENT_LEAST, SENT_MOST)
    optins = source.randint(sent // 2, sent)
    direct = source.randint(0, optins // 4)
    influenced = source.randint(0, optins // 4)
    return {
        "sent": sent,
        "sent_optins": optins,
        "direct_open": direct,
        "influenced_open": influenced,
        "reengaged": source.randint(0, direct + influenced),
    }
