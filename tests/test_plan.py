"""`craik plan`: totals over the graph of jobs, with estimates of the largest job and of all."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory
from pipeline.environment import share_cores
from pipeline.plan import as_json, plan, size
from pipeline.run import prepare, specs_of
from pipeline.settings import load_study
from stages import estimates
from tasks import registry

pytestmark = pytest.mark.usefixtures("undisturbed")


def estimate(
    study: Any,
    spec: Any,
    stage: str,
    steps: int,
    curious: bool,
    relabelled_updates: int = 0,
    planner: str | None = None,
) -> dict[str, Any]:
    """Numbers that are easy to add up."""
    updates = steps // 4
    return {
        "parameters": 10,
        "memory_bytes": 1000 + steps,
        "disk_bytes": 7,
        "updates": updates,
        "seconds": float(steps),
    }


def test_a_plan_adds_up() -> None:
    study = load_study("desk", None, ["transfer.arms.equal={equal_total=true}"])
    rows = {row.stage: row for row in plan(study, estimate)}
    explore, transfer, evaluate = rows["explore"], rows["transfer"], rows["evaluate"]
    # three seeds and the random baseline, which learns nothing
    assert (explore.jobs, explore.env_steps, explore.updates) == (4, 4 * 16_000, 3 * 4_000)
    # four arms of 6,000 steps and one with the exploration's on top, three seeds each
    assert (transfer.jobs, transfer.env_steps) == (15, 3 * (4 * 6_000 + 22_000))
    assert transfer.updates == transfer.env_steps // 4
    assert transfer.memory_bytes == 1000 + 22_000
    assert transfer.disk_bytes == 15 * 7
    assert evaluate.jobs == 15 + 2
    data = as_json(study, list(rows.values()), jobs=2)
    assert data["total"]["seconds"] == (3 * 16_000 + transfer.env_steps) / 2
    assert data["total"]["memory_bytes_per_job"] == 23_000


def test_episodes_that_end_long_before_their_limit_are_not_counted_to_it() -> None:
    study = load_study("crafter").first
    spec = registry.spec("crafter/reward", study.tasks)
    found = estimates.estimate(study, spec, "evaluate", 0, curious=False)
    # before the first update and after the last, 32 episodes of 300 of at most 10,000 steps
    assert spec.episode_length == 10_000
    assert found["seconds"] == pytest.approx(2 * 32 * 300 / estimates.EVALUATION_RATE)


def test_planning_takes_time_where_somebody_plans() -> None:
    def seconds(*overrides: str) -> dict[str, float]:
        return {row.stage: row.seconds for row in plan(load_study("desk", None, overrides))}

    none, some = seconds(), seconds('planning.evaluate="mppi"')
    more = seconds('planning.evaluate="mppi"', "planning.samples=256")
    assert none["transfer"] == some["transfer"]
    assert more["evaluate"] - none["evaluate"] == pytest.approx(
        2 * (some["evaluate"] - none["evaluate"])
    )
    assert seconds('planning.collect="cem"')["explore"] > 2 * none["explore"]


def test_a_search_takes_what_its_size_and_levels_say() -> None:
    study = load_study("perfect-model").variants["simulator"]
    spec = specs_of(study)["maze/collect:small"]

    def seconds(planner: str | None, levels: int | None = 100) -> float:
        tasks = study.tasks.model_copy(update={"levels": levels})
        of = study.model_copy(update={"tasks": tasks})
        return estimates.estimate(of, spec, "evaluate", 0, False, 0, planner)["seconds"]

    policy = seconds("none")
    assert seconds("mcts-64") - policy == pytest.approx(4 * (seconds("mcts-16") - policy))
    assert policy == pytest.approx(2 * seconds("none", None))  # on unseen levels alone
    assert seconds(None) == pytest.approx(1.5 * seconds(None, None))  # start, final, seen


def test_agents_of_real_steps_take_what_their_searches_take() -> None:
    """And nothing for imagination, which they do not do."""
    none = ("planning.learn=none", "planning.collect=none")

    def row(*overrides: str) -> dict[str, Any]:
        roles = ("planning.learn=mcts", "planning.collect=mcts", "transfer.steps=4_800")
        sizes = ("training.batch_size=256", "training.batch_length=11", "muzero.unroll=5")
        pace = ("training.env_steps_per_update=4", "planning.search.simulations=16")
        asked = (*roles, *sizes, *pace, *overrides)
        study = load_study("planning-roles", None, asked).first
        spec = specs_of(study)["desk/reach:dense"]
        return estimates.estimate(study, spec, "transfer", 4_800, False)

    plain, twice, without = row(), row("planning.search.simulations=32"), row(*none)
    assert row("behaviour.imagination_horizon=50") == plain
    searching = plain["seconds"] - without["seconds"]
    assert twice["seconds"] - without["seconds"] == pytest.approx(2 * searching)
    # 1,000 updates of 256 roots, and 4,000 env steps, 16 simulations each
    assert searching > (1_000 * 256 + 4_000) * 16 * estimates.NODE_SECONDS
    # a latent that knows four observations: three more of 128 + 2 numbers at each of 11 steps,
    # and no roots at the first three; the layer to it has three times as many weights more
    remembering = row(*none, "muzero.history=4", "training.batch_length=14")
    assert remembering["parameters"] - without["parameters"] == 2 * 3 * (128 + 2) * 128
    more = remembering["memory_bytes"] - without["memory_bytes"]
    weights = 4 * (estimates.COPIES + estimates.SLOW_COPIES) * 3 * 130 * 128
    more -= weights + 4 * estimates.REMEMBERED * 3 * 130 * 256 * 14
    assert 0 < more < 8 * estimates.MIB  # the batches are longer
    learning = row("planning.collect=none")
    for searched, states in ((plain, 256 + 16), (learning, 256)):  # roots, and 16 environments
        more = searched["memory_bytes"] - without["memory_bytes"]
        trees = 4 * estimates.PLANNED * 128 * 16 * states  # 16 nodes as wide as the networks
        assert more == estimates.COMPILING_PLANNER_BYTES + trees


@pytest.mark.parametrize("planner", ["cem", "mppi", "mcts"])
@pytest.mark.parametrize(
    ("world_model", "share", "states"),
    [("rssm", "planning.learn_share=0.25", 16), ("muzero", "learning.reanalyse=0.25", 4 * 22)],
)
def test_a_plan_takes_the_same_to_learn_from_as_to_collect_by(
    planner: str, world_model: str, share: str, states: int
) -> None:
    """A quarter of 64 imagination starts, or of 16 sequences with 22 roots, for every update."""
    study = load_study("desk", None, [f"agent.world_model={world_model}", share]).first
    spec = specs_of(study)["desk/push_left:sparse"]

    def row(**roles: str) -> dict[str, Any]:
        planning = study.planning.model_copy(update={"learn": "none", "collect": "none", **roles})
        of = study.model_copy(update={"planning": planning})
        return estimates.estimate(of, spec, "transfer", 6_800, False)

    none, learning, collecting = row(), row(learn=planner), row(collect=planner)
    each = (collecting["seconds"] - none["seconds"]) / (6_800 - 800)
    assert each > 0
    extra = learning["seconds"] - none["seconds"]
    assert extra == pytest.approx(none["updates"] * states * each)
    compiling = estimates.COMPILING_PLANNER_BYTES
    more = [found["memory_bytes"] - none["memory_bytes"] - compiling
            for found in (collecting, learning)]  # fmt: skip
    assert more[1] == pytest.approx(states / 8 * more[0])  # of 8 environments, of all the states
    both = row(learn=planner, collect=planner)
    assert both["memory_bytes"] - none["memory_bytes"] == sum(more) + compiling
    assert both["seconds"] == pytest.approx(collecting["seconds"] + extra)


def test_the_estimate_of_a_job_is_near_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exploration in a process of its own, that compiles as users' do."""
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    share_cores(os.environ, 2)
    prepare()
    study = load_study("desk", "smoke", ["explore.steps=300"]).first
    (row,) = memory.measure(study, tmp_path, ("explore",))
    assert 0.75 < row.memory_ratio < 1.25, row
    assert 0.75 < row.disk_ratio < 1.25, row


def test_variants_are_planned_apart_and_share_explorations(tmp_path: Any) -> None:
    path = tmp_path / "v.toml"
    path.write_text(
        '[tasks]\nexplore = "desk/free"\ntransfer = ["desk/reach"]\n'
        '[[variants]]\nname = "a"\n[[variants]]\nname = "b"\nset = { "transfer.steps" = 5_000 }\n'
    )
    rows = plan(load_study(path), estimate)
    assert [(row.variant, row.stage) for row in rows] == [
        ("a", "explore"),
        ("a", "transfer"),
        ("a", "evaluate"),
        ("b", "transfer"),
        ("b", "evaluate"),
    ]


def test_sizes_are_readable() -> None:
    assert [size(n) for n in (10, 2048, 5 * 2**20, 3 * 2**29)] == [
        "10 B",
        "2 KiB",
        "5 MiB",
        "1.5 GiB",
    ]
