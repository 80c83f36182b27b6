"""What each client does when something goes wrong: the rows of tests/faults/table.py, run for us and the others.

The times are those of a simulated clock and not of this machine: a second is one that a user would wait.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from report import table

CHECKOUT = Path(__file__).resolve().parent.parent
WORDS = 150
"""Characters of an error's text."""
LEGEND = """\
  ok                safe and optimal; a task may fail where nothing else would be correct
  leaks the key     the REST key went to another host, or unencrypted
  hangs             no time limit: it waits for as long as the server does not answer
  too early         sent again before the server's Retry-After, or before Batch's 5 s after a 429
  never ends        still trying after 60 attempts
  false success     the task is green, the campaign is not live
  sent twice        the change was applied a second time, unseen: twice a push where the push time is now
  repeats           a refusal that cannot change was asked for again
  needless failure  the task failed where reading the campaign or a retry would have succeeded
  shows a key       the REST key is in the log or the error, after Airflow has masked what it knows"""


def run() -> Iterator[str]:
    """Play every row for every subject; yield the verdicts, their sums, and the details."""
    # Behind the benchmarks' own folder: their `faults` is this module, the tests' is tests.faults.
    sys.path[1:1] = [str(CHECKOUT)]
    sys.path.append(str(CHECKOUT / "tests"))
    from fault_subjects import SUBJECTS

    from tests.faults.driver import Played, plain, play, verdict
    from tests.faults.table import ROWS, Row

    names = [subject.name for subject in SUBJECTS]
    found: list[tuple[Row, list[Played], list[str]]] = []
    for row in ROWS:
        played = [play(subject, row) for subject in SUBJECTS]
        found.append((row, played, [verdict(row, one) for one in played]))

    yield "  A task switches one campaign on and meets one fault. Seconds are those of a simulated clock.\n"
    yield LEGEND + "\n"
    yield table(("fault", *names), [(row.name, *words) for row, _, words in found])
    yield ""
    counts = [Counter(words[index] for _, _, words in found) for index in range(len(names))]
    kinds = [line.split("  ")[1].strip() for line in LEGEND.splitlines()]
    sums = [(kind, *(str(count[kind] or "-") for count in counts)) for kind in kinds if any(c[kind] for c in counts)]
    yield table((f"of {len(found)} rows", *names), sums)
    shown = [sum(bool(played[index].shown_keys()) for _, played, _ in found) for index in range(len(names))]
    counted = ", ".join(f"{number} ({name})" for number, name in zip(shown, names, strict=True))
    yield f"\n  Rows whose log shows the app key: {counted}."
    for name, count, index in zip(names, counts, range(len(names)), strict=True):
        lost = [row.name for row, _, words in found if words[index] != "ok"]
        if name.startswith("ours"):
            yield f"\n  Where we lose ({name}, {len(found) - count['ok']} rows): {'; '.join(lost) or 'nowhere'}."
    yield "\n  The details. requests: updates + reads. again: seconds from the first update to the second. slot:"
    yield "  seconds of waiting that kept the worker slot. live, drafts: campaigns that are and are not live then."
    yield "  shown: keys that the log or the error shows after Airflow's masking (the app key is a part of each URL)."
    for row, played, words in found:
        yield f"\n  {row.name}"
        rows = [
            (
                name,
                f"{len(one.updates)} + {len(one.requests) - len(one.updates)}",
                f"{one.waits[0]:.0f}" if one.waits else "-",
                f"{one.slot_seconds:.0f}",
                one.state,
                str(one.pushes),
                str(one.campaigns),
                str(one.drafts),
                word,
                " ".join(one.shown_keys()) or "-",
                _cut(f"{one.error}: {plain(one.text)}" if one.error else ""),
            )
            for name, one, word in zip(names, played, words, strict=True)
        ]
        headings = ("", "requests", "again", "slot", "task", "pushes", "live", "drafts", "verdict", "shown", "error")
        yield table(headings, rows)


def _cut(text: str) -> str:
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"
