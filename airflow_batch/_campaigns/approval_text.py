"""The text that an approver sees: Markdown, made of a campaign, a payload and what the plan warns of. Pure functions.

All that comes from Batch, or from a payload, stands in code spans, where neither Markdown nor HTML means anything.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

from airflow_batch._campaigns.diff import Campaign, difference_rows, overlaid, read_moment, request_form
from airflow_batch._campaigns.history import History
from airflow_batch._campaigns.plan import Done, Refuse, Send, Situation, plan_change
from airflow_batch._campaigns.request import ChangeRequest
from airflow_batch._campaigns.rules import FIRST_TIME_ZONE, LAST_TIME_ZONE, Clocks

LINE_BREAK = " ⏎ "
_LISTED = frozenset({"name", "live", "labels", "messages", "targeting", "deeplink", "push_time", "local_push_time"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
_IN_A_MESSAGE = ("title", "body", "deeplink")
_JOINERS = "\u200c\u200d"
"""Invisible, but part of emoji and of some scripts."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EMOJI_STYLES, _EMOJI_BASES, _KEYCAP = "\ufe0e\ufe0f", "\u203c\u2049\u2139\u3030", "\u20e3"
"""What chooses a style for an emoji; the emoji that are no symbols in Unicode; what makes a digit a keycap."""


def warnings_of(
    token: str, seen: Campaign, payload: Campaign | None, clocks: Clocks, run_after: datetime | None
) -> list[str]:
    """Return what the plan would warn of if the campaign were switched on, or updated with the payload, now.

    :raises BatchError: what the plan would refuse the change with.
    """
    request = ChangeRequest(token=token, live=None if payload else True, parameters=payload or {}, dry_run=True)
    situation = Situation(
        request=request, seen=seen, history=History(began=clocks.ours), clocks=clocks, run_after=run_after
    )
    plan = plan_change(situation)
    if isinstance(plan, Refuse):
        raise plan.error
    if isinstance(plan, Send):
        return list(plan.warnings)
    already = "The campaign is as desired already: nothing would be sent."
    return [warning for warning in (already, plan.warning) if warning] if isinstance(plan, Done) else []


def approval_text(
    *,
    token: str,
    app: str | None,
    seen: Campaign,
    payload: Campaign | None,
    zone: tzinfo,
    warnings: list[str],
) -> str:
    """Return what is shown: the campaign as it would be with the payload.

    It holds no moment of its own, so that it is the same for the same campaign.
    """
    whole = overlaid(request_form(seen), payload or {})
    lines = [f"- **Warning:** {code(warning)}" for warning in warnings]
    lines += [
        f"- **Name:** {code(whole.get('name'))}",
        f"- **App:** {code(app) if app else 'the one of the connection'}",
        f"- **Token:** {code(token)}",
        f"- **Live now:** {code(seen.get('live'))}",
        *_times(whole, seen, zone),
        f"- **Targeting:** {code(whole.get('targeting')) if whole.get('targeting') else 'everybody'}",
        f"- **Labels:** {_listed(whole.get('labels'))}",
    ]
    if whole.get("deeplink"):
        lines.append(f"- **Deep link:** {code(whole['deeplink'])}")
    lines += ["", "#### Messages", "", *_messages(whole.get("messages"))]
    others = {name: value for name, value in whole.items() if name not in _LISTED and value is not None}
    if others:
        lines += ["", "#### Other parameters", ""]
        lines += [f"- {_key(name)}: {code(value)}" for name, value in others.items()]
    if payload:
        lines += ["", "#### Changes by the payload", "", *_changes(payload, seen)]
    return "\n".join(lines)


def code(value: Any) -> str:
    """Return a value as a Markdown code span on one line, in which what cannot be seen is written out.

    Text as it is, anything else as JSON.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not text:
        return "(empty)"
    text = LINE_BREAK.join(text.splitlines()) if len(text.splitlines()) > 1 else text.strip("\r\n")
    text = visible(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _listed(value: Any) -> str:
    return ", ".join(map(code, value if isinstance(value, list) else [value])) if value else "none"


def visible(text: str) -> str:
    """Return a text in which what shows nothing, or changes the direction, is written by its number in Unicode."""
    around = zip(text, " " + text, text[1:] + " ", strict=False)
    return "".join(f"\\u{ord(letter):04x}" if _is_hidden(letter, *others) else letter for letter, *others in around)


def _is_hidden(letter: str, before: str, after: str) -> bool:
    if letter in _EMOJI_STYLES and (unicodedata.category(before)[0] == "S" or before in _EMOJI_BASES):
        return False
    if letter in _EMOJI_STYLES and after == _KEYCAP:
        return False
    is_selector = "VARIATION SELECTOR" in unicodedata.name(letter, "")
    category = unicodedata.category(letter)
    return is_selector or letter in _BLANK or (category in _HIDDEN and letter not in _JOINERS)


def _key(name: str) -> str:
    return f"**{name.replace('_', chr(92) + '_')}**" if _NAME.fullmatch(name) else code(name)


def _times(whole: Campaign, seen: Campaign, zone: tzinfo) -> Iterator[str]:
    push_time, local, recurrence = (whole.get(name) for name in ("push_time", "local_push_time", "recurrence"))
    if push_time == "now":
        yield "- **Push time:** at once, when the campaign is updated"
    elif push_time is not None:
        moment = read_moment(push_time)
        yield f"- **Push time:** {code(push_time) if moment is None else _in_zones(moment, zone)}"
    if local is not None:
        moment = read_moment(local)
        yield f"- **Local push time:** {code(local)} in the time zone of each device" + (
            ""
            if moment is None
            else f", from {_in_zones(moment + FIRST_TIME_ZONE, zone)} to {_in_zones(moment + LAST_TIME_ZONE, zone)}"
        )
    if seen.get("trigger") is not None:
        yield f"- **Trigger:** {code(seen['trigger'])}"
    if push_time is None and local is None and not recurrence and seen.get("trigger") is None:
        yield "- **Push time:** none"


def _in_zones(moment: datetime, zone: tzinfo) -> str:
    utc, there = f"{moment:%Y-%m-%d %H:%M:%S} UTC", moment.astimezone(zone)
    name = getattr(zone, "key", None) or getattr(zone, "name", None) or str(zone)
    return code(utc) if name == "UTC" else f"{code(utc)} ({code(f'{there:%Y-%m-%d %H:%M:%S} {name}')})"


def _messages(messages: Any) -> Iterator[str]:
    variants = messages if isinstance(messages, Mapping) else {None: messages}
    for variant, items in variants.items():
        if variant is not None:
            yield f"- **Version** {code(variant)}"
        indent = "" if variant is None else "  "
        for message in items if isinstance(items, list) else [items]:
            if not isinstance(message, Mapping):
                yield f"{indent}- {code(message)}"
                continue
            yield f"{indent}- **Language** {code(message.get('language', 'default'))}"
            names = [*_IN_A_MESSAGE, *(name for name in message if name not in (*_IN_A_MESSAGE, "language"))]
            yield from (f"{indent}  - {_key(name)}: {code(message[name])}" for name in names if name in message)


def _changes(payload: Campaign, seen: Campaign) -> Iterator[str]:
    rows = difference_rows(payload, seen)
    if not rows:
        yield "- none"
    for row in rows:
        yield f"- {_key(row['parameter'])}"
        yield f"  - now: {code(row['now'])}"
        yield f"  - then: {code(row['wanted'])}"
