"""Faults put into a copy of the package, one at a time: the simulator must find each of them.

``PYTHONPATH=tests python -m simulation.mutations`` prints after how many worlds each was found, for three fixed seeds.
Findings of the first version are named by their number (A1, 4.1, ...); the others are rules left out, comparisons the
wrong way round, and records that are written too late.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import airflow_batch

WORLDS = 20_000
SEEDS = (10_000_000, 20_000_000, 30_000_000)
PACKAGE = Path(airflow_batch.__file__).parent
TESTS = Path(__file__).resolve().parent.parent
FIND = """
import sys
from simulation.worlds import run_world, spec_of
first = int(sys.argv[1])
for count in range(int(sys.argv[2])):
    if kinds := run_world(spec_of(first + count)).failing:
        print(count + 1, kinds[0][0])
        break
else:
    print(0, "not found")
"""


@dataclass(frozen=True)
class Mutation:
    """One fault: a text of a file that stands in it once, and what takes its place."""

    name: str
    file: str
    old: str
    new: str

    def apply(self, package: Path) -> None:
        path = package / self.file
        source = path.read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: the text stands {source.count(self.old)} times in {self.file}")
        path.write_text(source.replace(self.old, self.new))


PLAN, CHANGE, CREATE, RULES, HISTORY, APPROVAL = (
    f"_campaigns/{name}.py" for name in ("plan", "change", "create", "rules", "history", "approval")
)
DRY_RUN, DELETE = "_campaigns/dry_run.py", "_campaigns/delete.py"
SYNC, MEMORY, STATES, WRITING = (f"_sync/{name}.py" for name in ("run", "memory", "states", "writing"))

MUTATIONS = (
    Mutation("A1: a creation is live at once", CREATE, '{**self.payload, "live": False}', "dict(self.payload)"),
    Mutation("A2: the definition is mixed into what is sent", PLAN,
             "known, base = seen, request_form(seen)",
             "known, base = seen, {**request_form(seen), **(request.definition or {})}"),
    Mutation("A3: nothing keeps a second push back", PLAN,
             "if sent_before or (at_once and history.on is not None):", "if False:"),
    Mutation("A4: no lateness", PLAN, "if latest is None or situation.clocks.later <= latest", "if True"),
    Mutation("A5: a push time that has passed is sent", RULES, "moment is not None and moment <= now",
             "moment is not None and False"),
    Mutation("A5: push times are checked by Batch's clock alone", RULES, "return max(self.ours, self.batch)",
             "return self.batch"),
    Mutation("A5: any trigger or recurrence switches the rule off", RULES,
             'return isinstance(campaign.get("recurrence"), Mapping) and bool(campaign["recurrence"])',
             'return "recurrence" in campaign'),
    Mutation("A7: the last choice of a stop carries the name", PLAN, "choices.append(dict(desired))",
             'choices.append({"name": name, **desired} if name else dict(desired))'),
    Mutation("A9: a read ends a stop after an own on", PLAN,
             "on_at = None if history.on is None else history.on.at", "on_at = None"),
    Mutation("A9: the second stop is not sent", PLAN, "if off.confirmed and off.at >= settled:", "if off.confirmed:"),
    Mutation("4.2: a callback goes on after its time", CHANGE,
             "min(left, STOP_READ_LIMIT) if stops", "STOP_READ_LIMIT if stops"),
    Mutation("A11: nothing is compared after the write", RULES,
             'lost += [name for name in ("name", "messages") if not seen.get(name) and name not in lost]',
             "lost = []"),
    Mutation("4.1: the name is not checked where it cannot be read", PLAN,
             "if request.expect_name is not None and rules.names_agree(seen, request.expect_name) is None:\n"
             "        why", "if False:\n        why"),
    Mutation("4.1: another name is not refused", RULES,
             "return any(same_name(seen[\"name\"], name) for name in (expect_name, renamed_to))", "return True"),
    Mutation("a later attempt without a record may push", HISTORY,
             "return History(began=began, is_known=first, may_push=first)",
             "return History(began=began, is_known=first, may_push=True)"),
    Mutation("a later attempt without a record is sure of what was sent", HISTORY,
             "return History(began=began, is_known=first, may_push=first)",
             "return History(began=began, is_known=True, may_push=first)"),
    Mutation("a push is sent without a record", CHANGE,
             "self.journal.save_before_push(history)", "pass"),
    Mutation("a refusal is taken for an unconfirmed write", CHANGE,
             "if isinstance(error, BatchApiError) and error.may_have_been_applied:",
             "if isinstance(error, BatchApiError) and not error.may_have_been_applied:"),
    Mutation("an unconfirmed write counts as confirmed", PLAN,
             "        return Done(None)\n    following", "        return Done(True)\n    following"),
    Mutation("what is as desired counts as unchanged in a later attempt", PLAN,
             "return None if own is not None or not history.is_known else False", "return False"),
    Mutation("an on does not wait after the own stop", PLAN,
             "if may_conflict and now < since + SETTLE_TIME:", "if False:"),
    Mutation("a window is evaluated by the later clock alone", RULES,
             "moments = sorted((clocks.ours, clocks.batch))", "moments = [max(clocks.ours, clocks.batch)] * 2"),
    Mutation("the desired state is computed once", PLAN,
             "live, error = rules.live_now(request.live, clocks, run_after, request.token)",
             "live, error = rules.live_now(request.live, Clocks(run_after, run_after) if run_after else clocks, "
             "run_after, request.token)"),
    Mutation("a kept draft of another payload goes live", CREATE,
             'if (kept.get("digest"), kept.get("app")) == (self.digest, self.api.app):', "if True:"),
    Mutation("a campaign that has gone live is switched on again in a cleared task", CREATE,
             "if on is None and self.goes_live:", "if self.goes_live:"),
    Mutation("what was unconfirmed before the task was cleared is switched on again", CREATE, "        if cleared:\n",
             "        if False:\n"),
    Mutation("a stop sends live alone", PLAN, "choices = [overlaid(base, desired)] if base else []", "choices = []"),
    Mutation("approval: nothing is compared with what was approved", PLAN, "if request.approval is not None:",
             "if False:"),
    Mutation("approval: the digest is that of a later view", APPROVAL,
             "if approval.parameters.get(name) != now.get(name)]", "if now.get(name) != now.get(name)]"),
    Mutation("approval: the messages are not in the digest", APPROVAL, 'items() if name != "live"}',
             'items() if name not in ("live", "messages")}'),
    Mutation("approval: the payload is not in the digest", APPROVAL, "whole = overlaid(base, payload or {})",
             "whole = base"),
    Mutation("approval: a campaign that cannot be read counts as approved", APPROVAL,
             'return "it cannot be read, so it is not known whether it is as approved"', 'return ""'),
    Mutation("approval: a rejection counts as an approval", APPROVAL, "if approved is not True:", "if False:"),
    Mutation("sync: stops do not go first", SYNC,
             "stops = [index for index in pending if not self.states.is_on(index)]",
             "stops = [index for index in pending if self.states.is_on(index)]"),
    Mutation("sync: after a kill everything is known", MEMORY,
             'self.was_known = self._before.is_known and not kept.get("unconfirmed")', "self.was_known = True"),
    Mutation("sync: an on is sent after a lost parameter", WRITING,
             "if (lost := self.lost.get(app)) is not None and self.states.is_on(index):",
             "if (lost := self.lost.get(app)) and False:"),
    Mutation("sync: the pushes of earlier attempts are forgotten", MEMORY,
             "push_at = read_moment(self._pushes.get(_key(campaign)))", "push_at = None"),
    Mutation("sync: windows are evaluated once", STATES, "if self.is_on(index) is not live}", "if False}"),
    Mutation("sync: what an earlier attempt may have written counts as unchanged", MEMORY,
             'not self.was_known or bool(kept.get("wrote")) or attempt.is_rescheduled', "False"),
    Mutation("sync: the name that the list shows is not compared", SYNC,
             "if state is not None and rules.names_agree(state, campaign.expect_name) is False:", "if False:"),
    Mutation("a connection that never writes is written through", DRY_RUN,
             "if request.dry_run or reason:", "if request.dry_run:"),
    Mutation("a deletion is sent through a connection that never writes", DELETE,
             "dry_run = dry_run or bool(read_only_reason(api, clock, attempt, token, log))",
             "read_only_reason(api, clock, attempt, token, log)"),
    Mutation("sync: a connection that never writes is written through", SYNC,
             "            self.dry_run = True\n", "            pass\n"),
    Mutation("sync: no lateness", STATES, "if is_fixed else None", "if False else None"),
)  # fmt: skip


def found_after(mutation: Mutation, seed: int, worlds: int = WORLDS) -> tuple[int, str]:
    """Return after how many worlds from a seed a mutation is found, 0 if it is not, and by which promise."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        package = Path(folder, "airflow_batch")
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "sandbox"))
        mutation.apply(package)
        done = subprocess.run(
            [sys.executable, "-c", FIND, str(seed), str(worlds)],
            env={**os.environ, "PYTHONPATH": f"{folder}:{TESTS}"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    count, _, kind = done.stdout.strip().partition(" ")
    return int(count), kind


def main() -> int:
    """Print a table: each mutation, and after how many worlds it was found."""
    missed = 0
    print(f"{'mutation':70} {'worlds until it was found, for each seed':>42}   the promise that broke")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [[pool.submit(found_after, mutation, seed) for seed in SEEDS] for mutation in MUTATIONS]
        for mutation, futures in zip(MUTATIONS, runs, strict=True):
            results = [future.result() for future in futures]
            missed += any(count == 0 for count, _ in results)
            counts = "".join(f"{count or 'NOT FOUND':>14}" for count, _ in results)
            print(f"{mutation.name:70} {counts}   {results[0][1]}", flush=True)
    print(f"\n{len(MUTATIONS) - missed} of {len(MUTATIONS)} mutations found within {WORLDS:,} worlds.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
