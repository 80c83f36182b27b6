"""The tables of an export: their columns, and the rows of a campaign. Pure functions.

The columns are data, from which the documents are made (``docs/operators/export-campaigns.md``). What Batch shows and
no column takes, because its key is not known or its value has another type, is in the column ``extra`` of the row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

ColumnType = Literal["text", "boolean", "integer", "number", "json"]
Row = dict[str, Any]

TOTAL = "total"
"""The ``variant`` of the statistics of a whole campaign."""
EXTRA = "extra"
STATS_ANSWER = "stats_answer"
"""The key in ``extra`` of a campaign for what Batch's answer about its statistics holds beside the dates."""
MAX_INTEGER = 2**63 - 1


class Column(NamedTuple):
    """A column of a table.

    :param name: Also the key of Batch's answer from which the value comes, unless it is one of ``Table.own``.
    :param type: ``json`` is text that holds JSON. Every column but those that ``about`` excepts may be null.
    :param about: The description in the documents.
    """

    name: str
    type: ColumnType
    about: str


class Table(NamedTuple):
    """A table, and the columns whose values the export itself gives."""

    name: str
    about: str
    columns: tuple[Column, ...]
    own: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


_EVERY_ROW = (
    Column("app", "text", "the app; null if the connection has a single key and the task names no app"),
    Column("campaign_token", "text", "the campaign; never null"),
    Column("exported_at", "text", "when this campaign was read, ISO 8601 in UTC with milliseconds; never null"),
)
_OWN = tuple(column.name for column in _EVERY_ROW)
_EXTRA = Column(EXTRA, "json", "an object of what Batch shows and no other column takes")

CAMPAIGNS = Table(
    "campaigns",
    "One row for each campaign.",
    (
        *_EVERY_ROW,
        Column("name", "text", "the name"),
        Column("live", "boolean", "running or completed (true), stopped or a draft (false)"),
        Column("from_api", "boolean", "created by the API (true) or in the dashboard (false)"),
        Column("dev_only", "boolean", "targets developers only"),
        Column("created_date", "text", "as Batch shows it, such as `2026-06-01T09:00:00`"),
        Column("push_time", "text", "as Batch shows it"),
        Column("local_push_time", "text", "as Batch shows it; instead of `push_time` for a campaign in local time"),
        Column("labels", "json", "an array of codes"),
        Column("targeting", "json", "an object"),
        Column("recurrence", "json", "an object; null for a one-time campaign"),
        Column("trigger", "json", "an object, perhaps empty, for a trigger automation"),
        Column("priority", "text", "`normal` or `high`"),
        Column("push_type", "text", "such as `background`"),
        Column("time_to_live", "integer", "seconds"),
        Column("gcm_collapse_key", "json", "text or an object"),
        Column("deeplink", "text", "the deep link of the campaign; those of its messages are in `messages`"),
        Column("custom_payload", "text", "JSON text, as it was given to Batch"),
        Column("media", "json", "an object"),
        _EXTRA,
    ),
    _OWN,
)
MESSAGES = Table(
    "messages",
    "One row for each text of a campaign: each language, and each variant of an A/B test.",
    (
        *_EVERY_ROW,
        Column("variant", "text", "such as `a`; null if the campaign is no A/B test"),
        Column("position", "integer", "from 0, within the variant; never null"),
        Column("language", "text", "such as `en`"),
        Column("title", "text", "the title"),
        Column("body", "text", "the text"),
        Column("deeplink", "text", "the deep link of this message"),
        _EXTRA,
    ),
    (*_OWN, "variant", "position"),
)
STATS = Table(
    "stats",
    "One row for each date on which a campaign was sent, and one more for each variant of an A/B test.",
    (
        *_EVERY_ROW,
        Column("date", "text", "the date of sending as Batch shows it, such as `2026-06-01`"),
        Column("variant", "text", f"`{TOTAL}` for the whole campaign, or the variant, such as `a`; never null"),
        Column("sent", "integer", "pushes"),
        Column("sent_optins", "integer", "pushes to those who allow notifications"),
        Column("direct_open", "integer", "opens by the push"),
        Column("influenced_open", "integer", "opens after the push"),
        Column("reengaged", "integer", "users who came back"),
        Column("errors", "integer", "errors; Batch counts them for the whole campaign only"),
        Column("open_rate", "number", "(direct_open + influenced_open) / sent; null if nothing was sent"),
        _EXTRA,
    ),
    (*_OWN, "variant"),
)
TABLES = (CAMPAIGNS, MESSAGES, STATS)


def rows_of(record: Mapping[str, Any]) -> Iterator[tuple[Table, Row]]:
    """Yield the rows of a campaign, each with its table.

    :param record: ``app``, ``campaign_token`` and ``exported_at``; ``campaign`` as Batch's list and view show it; and
        ``stats``, its statistics as ``BatchHook.get_campaign_stats`` returns them, None where they were not read.
    """
    own = {name: record[name] for name in _OWN}
    campaign = dict(record["campaign"])
    messages, unread = _messages(campaign.pop("messages", None))
    if unread is not None:
        campaign["messages"] = unread
    stats = dict(record["stats"] or {"detail": ()})
    details = stats.pop("detail")
    if stats.keys() - {"campaign_token"}:
        campaign[STATS_ANSWER] = stats
    yield CAMPAIGNS, _row(CAMPAIGNS, own, campaign)
    for (variant, position), message in messages:
        yield MESSAGES, _row(MESSAGES, {**own, "variant": variant, "position": position}, message)
    for detail in details:
        for row in _stats_rows(own, detail):
            yield STATS, row


def _messages(messages: Any) -> tuple[list[tuple[tuple[str | None, int], Mapping[str, Any]]], Any]:
    """Return the messages by variant and position, and what of them is none.

    They are an array, in an A/B test an object ``{"a": [...], "b": [...]}``.
    """
    if not isinstance(messages, Mapping):
        found, unread = _variant(None, messages)
        return found, unread
    every: list[tuple[tuple[str | None, int], Mapping[str, Any]]] = []
    left: dict[str, Any] = {}
    for variant, texts in messages.items():
        found, unread = _variant(variant, texts)
        every += found
        if unread is not None:
            left[variant] = unread
    return every, left or None


def _variant(variant: str | None, texts: Any) -> tuple[list[tuple[tuple[str | None, int], Mapping[str, Any]]], Any]:
    if not isinstance(texts, list):
        return [], texts
    found = [((variant, at), text) for at, text in enumerate(texts) if isinstance(text, Mapping)]
    return found, [text for text in texts if not isinstance(text, Mapping)] or None


def _stats_rows(own: Mapping[str, Any], detail: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the row of a date, then those of the variants, which have its date."""
    row = dict(detail)
    versions = row.pop("versions", None)
    variants: Mapping[str, Any] = versions if isinstance(versions, Mapping) else {}
    variants = {name: counts for name, counts in variants.items() if isinstance(counts, Mapping) and name != TOTAL}
    unread = versions
    if isinstance(versions, Mapping):
        unread = {name: counts for name, counts in versions.items() if name not in variants} or None
    yield _row(STATS, {**own, "variant": TOTAL}, row | ({} if unread is None else {"versions": unread}))
    for name, counts in variants.items():
        dated = counts if counts.get("date") is not None else {**counts, "date": row.get("date")}
        yield _row(STATS, {**own, "variant": name}, dated)


def _row(table: Table, own: Mapping[str, Any], shown: Mapping[str, Any]) -> Row:
    """Return a row with all columns of a table: the export's own values, and those that Batch shows."""
    row: Row = {**dict.fromkeys(table.names), **own}
    extra = {}
    types = {column.name: column.type for column in table.columns if column.name not in (*table.own, EXTRA)}
    for name, value in shown.items():
        taken = _READERS[types[name]](value) if name in types else None
        if taken is not None:
            row[name] = taken
        elif value is not None and (name, value) != ("campaign_token", own["campaign_token"]):
            extra[name] = value
    row[EXTRA] = _json(extra) if extra else None
    return row


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if type(value) is int and abs(value) <= MAX_INTEGER else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


_READERS: Mapping[ColumnType, Callable[[Any], Any]] = {
    "text": _text,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "json": _json,
}
