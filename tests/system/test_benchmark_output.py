"""The output of the benchmarks shows no key, although some of the alternatives log one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from canary import assert_free

CHECKOUT = Path(__file__).resolve().parents[2]
ECHOES = """
import sys
sys.path[:0] = ["benchmarks", ".", "tests"]
from tests.faults import table
table.ROWS = tuple(row for row in table.ROWS if "echoes" in row.name)
import faults
print("\\n".join(faults.run()))
"""


def test_the_table_of_make_bench_faults_shows_no_key_that_a_server_repeats():
    run = subprocess.run([sys.executable, "-c", ECHOES], cwd=CHECKOUT, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "401 that echoes our keys" in run.stdout
    assert_free(run.stdout + run.stderr, "the printed table")


def test_the_benchmark_results_in_the_documents_show_no_key():
    assert_free((CHECKOUT / "docs" / "reliability.md").read_text(encoding="utf-8"), "docs/reliability.md")
