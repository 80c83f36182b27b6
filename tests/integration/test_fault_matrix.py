"""Every row of the fault matrix, for our operator. The rows are in faults/table.py.

`make bench-faults` prints the same rows for this provider and for its alternatives.
"""

from __future__ import annotations

import re

import pytest
from canary import assert_free
from faults.driver import OURS, play, too_early, verdict
from faults.table import ROWS

from airflow_batch._airflow.compat import HAS_RETRY_POLICY
from airflow_batch._campaigns.waiting import PAUSE_BEFORE_WRITE

SLACK = 5.0
"""Real seconds that a busy machine may add to a wait."""
READS = 5
"""How often an attempt reads the campaign after an ambiguous answer."""

NO_DELAY = "a retry cannot carry Batch's delay"
BELOW_3_3 = {
    ("429 for ever", "reschedule"): "max_wait counts anew for each retry",
    ("503, Retry-After 90", "reschedule"): NO_DELAY,
    ("503, Retry-After 90", "retry"): NO_DELAY,
    ("503, maintenance (code 2)", "retry"): NO_DELAY,
    ("503, maintenance for 10 min", "retry"): NO_DELAY,
}
"""What an Airflow without retry policies and a task state store cannot do; the README says so, too."""


@pytest.mark.parametrize("mode", OURS)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_toggle_that_meets_the_fault_ends_as_the_fault_table_says(row, mode, request):
    if not HAS_RETRY_POLICY and (reason := BELOW_3_3.get((row.name, mode))):
        request.applymarker(pytest.mark.xfail(strict=True, reason=f"Airflow below 3.3: {reason}"))
    played = play(OURS[mode], row)

    assert (played.state, played.live) == (row.state, row.live)
    kind, words = row.error or ("", "")
    assert played.error == kind
    assert re.search(words, played.text), played.text

    assert row.updates[0] <= len(played.updates) <= row.updates[1]
    assert played.steps <= row.tries
    # An attempt reads, sends, and reads again: once, or over the settle time.
    assert len(played.requests) <= (2 + (READS if row.slot_seconds else 1)) * played.steps
    assert (played.pushes, played.campaigns, played.drafts) == (0, int(row.live), int(not row.live))

    assert not too_early(row, played)
    if row.wait is not None:
        least, most = row.wait
        assert least - (1 if row.not_before else 0) <= played.waits[0] <= most + SLACK
    # A throttled task leaves a second between its read and its write: twice where it waits in its slot between them.
    assert played.most_slot_seconds <= row.slot_seconds + 2 * PAUSE_BEFORE_WRITE, (
        "an attempt kept its worker slot for longer than an ambiguous answer needs"
    )

    assert row.place == "dns" or "uses the Batch sandbox" in played.log_text, "the log was not kept"
    assert_free(played.log_text, "the log or an error")
    assert verdict(row, played) == row.verdict


def test_each_row_of_the_fault_table_has_its_own_name():
    assert len({row.name for row in ROWS}) == len(ROWS)
