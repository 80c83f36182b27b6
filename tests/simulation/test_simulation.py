"""Worlds in which no promise may break, and that the simulator detects what does break."""

from __future__ import annotations

import pytest

from simulation import subject
from simulation.airflow_model import Clear, Plan
from simulation.authors import CampaignSpec, Task
from simulation.batch_model import Nature
from simulation.run import RARE, run_many
from simulation.worlds import Spec, run_world, shrunk, spec_of

WORLDS = 20_000
FIRST_SEED = 1_000_000
FAILING_WORLDS = {
    "one 403 is no reason to send an 'on' again that another attempt has sent": Spec(
        seed=1,
        campaigns=(("A", CampaignSpec(push=600.0)),),
        tasks=((Task(definition="right"), Plan(store="emptied", timed=False, clears=(Clear(3600.0, True),))),),
        faults=(("r", 3, "403"),),
    ),
    "one 403 is no reason to send an update again by its definition": Spec(
        seed=2,
        campaigns=(("A", CampaignSpec(push="now")),),
        tasks=((Task(kind="update", definition="right"), Plan(store="load", clears=(Clear(120.0),))),),
        faults=(("r", 3, "403"),),
    ),
    "a push is not sent again where no clock is right by more than some minutes and nothing was saved": Spec(
        seed=179641,
        nature=Nature(again="sends", dev_key=True, date_offset=-240.0),
        campaigns=(("A", CampaignSpec()),),
        tasks=(
            (
                Task(kind="update", definition="stale"),
                Plan(store="emptied", worker_offsets=(-7200.0,) * 5, clears=(Clear(86400.0),)),
            ),
        ),
    ),
    "a callback cuts the request that asks for Batch's Date": Spec(
        seed=20016191,
        campaigns=(("A", CampaignSpec()),),
        tasks=((Task(kind="notifier", definition="right", read=False), Plan(start=5.0)),),
        faults=(("r", 1, "timeout"),),
    ),
    "a push time is no sign of a push where the one before it is not known": Spec(
        seed=50169699,
        nature=Nature(strict=True),
        campaigns=(("A", CampaignSpec(live=True, push=200.0)),),
        tasks=((Task(kind="update", push="now"), Plan()),),
        faults=(("w", 1, "429"), ("r", 2, "403"), ("w", 2, "reset:8")),
    ),
    "a window that closes while Batch is asked for its Date is stopped": Spec(
        seed=3,
        campaigns=(("A", CampaignSpec(live=True)),),
        tasks=((Task(kind="window", window=(-1.0, 14.0), read=False), Plan(retries=0, lateness=1.0)),),
        faults=(("r", 1, "timeout"),),
    ),
    "an attempt knows that the last write of the one before it was a stop": Spec(
        seed=4,
        nature=Nature(view_lag=60.0),
        campaigns=(("A", CampaignSpec()),),
        tasks=(
            (
                Task(kind="window", window=(-2.8, 297.0)),
                Plan(lateness=2.8, worker_offsets=(-0.5, -0.1, 86400.0, -1.8, -0.2)),
            ),
        ),
        faults=(("w", 2, "reset:lost"), ("r", 3, "503")),
    ),
}
"""Worlds in which a promise broke once, shrunk."""
FAILING_SEEDS = [
    *(1411, 1412, 1450, 2109, 2431, 4612, 7619, 11848, 17338, 21688, 24914, 25218, 125011, 171971),
    *(
        411095,
        414150,
        484204,
        726601,
        2006011,
        3001561,
        10001723,
        10004297,
        10017372,
        10020845,
        10025948,
        2025535,
        50079828,
        60099683,
        60179561,
        100062830,
        100671588,
        100761386,
        100934534,
        1017499,
        600348409,
        740001700,
        740002200,
        750021268,
        760001663,
        200052125,
        300124866,
        901035519,
        1100210818,
    ),
]
"""Seeds that once showed a violation."""

needs_core = pytest.mark.skipif(not subject.core_exists(), reason="the core cannot be imported")


@needs_core
def test_no_promise_breaks_in_20000_worlds():
    tally = run_many(WORLDS, FIRST_SEED)
    assert tally.failing == 0, "\n".join(tally.lines())
    missing = [note for note in RARE if not tally.notes[note]]
    assert not missing, f"never reached: {missing}"


@needs_core
@pytest.mark.parametrize("world", FAILING_WORLDS.values(), ids=FAILING_WORLDS)
def test_no_promise_breaks_in_a_world_in_which_one_once_did(world):
    assert run_world(world).failing == []


@needs_core
@pytest.mark.parametrize("seed", FAILING_SEEDS)
def test_no_promise_breaks_in_a_world_of_a_seed_that_once_failed(seed):
    assert run_world(spec_of(seed)).failing == []


def test_a_simulated_world_is_the_same_in_each_run():
    for seed in range(50):
        one, other = (run_world(spec_of(seed), "blind") for _ in range(2))
        assert (one.violations, one.notes, one.ends) == (other.violations, other.notes, other.ends)


def test_the_simulator_finds_what_a_client_without_any_checks_does_wrong():
    tally = run_many(6_000, 0, client="blind")
    for kind in (
        "two pushes",
        "on sent after its push time",
        "on sent after its window",
        "on sent later than its lateness",
        "mixed",
        "name not checked",
        "changed is not false",
        "green, but not stopped",
        "a dry run sent something",
        "written through a read-only connection",
        "on sent before a stop",
    ):
        assert tally.violations[kind] > 0, f"{kind}: {tally.violations}"


def test_a_client_that_sends_nothing_breaks_only_the_promise_of_the_stop():
    tally = run_many(3_000, 0, jobs=1, client="silent")
    assert set(tally.violations) == {"red, and no stop was tried", "red, and not stopped, though nothing failed"}
    assert [note for note in tally.notes if note.startswith("pushes by tasks")] == ["pushes by tasks: 0"]


def test_the_simulator_shrinks_a_violation_to_what_it_needs():
    seed = next(seed for seed in range(1_000) if ("two pushes") in dict(run_world(spec_of(seed), "blind").violations))
    small = shrunk(spec_of(seed), "blind", "two pushes")
    assert len(small.tasks) == 1
    assert len(small.faults) + len(small.periods) + len(small.crash_points) + len(small.tasks[0][1].clears) <= 2
