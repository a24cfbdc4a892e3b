"""The studies of the MuZero family: what their variants vary, and who searches when."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from pipeline.jobs import build
from pipeline.settings import load_study, ready_made
from policies import planners, search_agent
from policies.agent import act, agent_loss, fresh_memory
from policies.planners import build_planner
from policies.search import search
from stages.explore import fresh_agent
from stages.settings import Study, planned_updates
from tasks import registry
from tests import tiny

KEY = jax.random.key(0)
# update targets, training actions and test actions from search (2011.04021, table 1)
ROLES = {
    "One-Step": (False, False, False),
    "Learn": (True, False, False),
    "Data": (False, True, False),
    "Learn-Data": (True, True, False),
    "Learn-Data-Eval": (True, True, True),
}
PRESETS = pytest.mark.parametrize("preset", ["smoke", "cpu", "paper"])
EDITIONS = pytest.mark.parametrize("edition", ["", "-envpool"])  # specs need no EnvPool


def searches(study: Study, task: str, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, ...]:
    """Whether an update, a training step and a test step search; their programs are traced."""
    calls: list[None] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        return search(*arguments, **options)

    monkeypatch.setattr(search_agent, "search", spy)
    monkeypatch.setattr(planners, "search", spy)
    spec = registry.spec(task, study.tasks)
    agent = fresh_agent(study, spec, 0, "transfer", curious=False)
    batch = tiny.batch(2, 16, observation=spec.observation, action=spec.action)
    seen = {name: batch[name][:, 0] for name in spec.observation}

    def update(agent: Any) -> jax.Array:
        return agent_loss(agent, batch, KEY, stage="transfer", dtype=jnp.dtype("float32"))[0]

    def step(planner: Any, greedy: bool) -> Any:
        chosen = build_planner(planner, study.planning)
        memory = fresh_memory(agent, 2, chosen)
        first = jnp.ones(2, bool)
        return lambda agent: act(agent, memory, seen, first, KEY, planner=chosen, greedy=greedy)[0]

    found = []
    roles = study.planning
    for program in (update, step(roles.collect, False), step(roles.evaluate, True)):
        calls.clear()
        eqx.filter_eval_shape(program, agent)
        found.append(bool(calls))
    return tuple(found)


@pytest.mark.parametrize("name", ROLES)
def test_who_searches_when(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study("planning-roles", "smoke")
    assert list(study.variants) == list(ROLES)
    variant = study.variants[name]
    assert searches(variant, variant.tasks.transfer[0], monkeypatch) == ROLES[name]


@PRESETS
@EDITIONS
def test_the_roles_differ_in_planning_alone(preset: str, edition: str) -> None:
    study = load_study(f"planning-roles{edition}", preset)
    plain = study.variants["One-Step"]
    kinds = {registry.spec(task, plain.tasks).action.kind for task in plain.tasks.transfer}
    assert kinds == {"discrete", "continuous"}
    for variant in study.variants.values():
        assert variant.model_copy(update={"planning": plain.planning}) == plain
    assert len(plain.seed_list) == (1 if preset == "smoke" else 3)


@PRESETS
@EDITIONS
def test_generalisation_crosses_levels_and_losses(preset: str, edition: str) -> None:
    study = load_study(f"generalisation{edition}", preset)
    losses = ("spr", "contrastive", "reconstruction")
    cells = set()
    for name, variant in study.variants.items():
        family, _, levels = str(name).rpartition("-")
        assert variant.tasks.levels == int(levels)
        used = [loss for loss in losses if getattr(variant.muzero, f"{loss}_scale") > 0]
        assert used == ([] if family == "none" else [family])
        cells.add((family, variant.tasks.levels))
    families, counts = zip(*cells, strict=True)
    assert len(cells) == 12
    assert (len(set(families)), len(set(counts))) == (4, 3)


@PRESETS
@EDITIONS
def test_transfer_has_four_arms_where_there_is_a_model(preset: str, edition: str) -> None:
    study = load_study(f"transfer-muzero{edition}", preset)
    kinds = [variant.agent.world_model for variant in study.variants.values()]
    assert kinds == ["rssm", "muzero", "none"]
    arms = {name: set(variant.transfer.arms) for name, variant in study.variants.items()}
    assert arms["rssm"] == arms["muzero"] == {"scratch", "model", "policy", "both"}
    assert arms["control"] == {"scratch", "policy"}
    muzero, control = study.variants["muzero"], study.variants["control"]
    assert muzero.training == control.training
    assert (muzero.behaviour, muzero.learning) == (control.behaviour, control.learning)


@PRESETS
def test_planners_cross_world_models(preset: str) -> None:
    """Every planner at evaluation, apart from the main one; the variants differ in their agents."""
    study = load_study("planners", preset)
    kinds = [variant.agent.world_model for variant in study.variants.values()]
    assert kinds == ["rssm", "muzero"]
    jobs = build(study.variants).jobs.values()
    crossed = {
        (job.id.split("/")[0], job.task, job.planner) for job in jobs if job.stage == "evaluate"
    }
    tasks = ("desk/reach:dense", "desk/open_drawer:dense")
    every = itertools.product(("rssm", "muzero"), tasks, (None, "cem", "mppi", "mcts"))
    assert crossed == set(every)
    assert {job.task for job in jobs if job.stage == "transfer"} == set(tasks)
    assert len(study.first.seed_list) == (1 if preset == "smoke" else 3)


@PRESETS
def test_collecting_planners_cross_world_models(preset: str) -> None:
    """Names say who collects; within a world model nothing else differs, and no planner acts at
    the end."""
    study = load_study("planners-collect", preset)
    cells = {}
    for name, variant in study.variants.items():
        model, _, planner = str(name).rpartition("-")
        assert (variant.agent.world_model, variant.planning.collect) == (model, planner)
        assert (variant.planning.evaluate, variant.evaluate.planners) == ("none", ())
        updates = planned_updates(variant.training, variant.transfer.steps)
        assert updates >= 2 * variant.training.updates_per_call  # the policy acts before the first
        planning = variant.planning.model_copy(update={"collect": "none"})
        cells[model, planner] = variant.model_copy(update={"planning": planning})
    every = itertools.product(("rssm", "muzero"), ("none", "cem", "mppi", "mcts"))
    assert list(cells) == list(every)
    assert all(cells[model, planner] == cells[model, "none"] for model, planner in cells)
    assert study.first.tasks.transfer == ("desk/reach:dense", "desk/open_drawer:dense")
    assert len(study.first.seed_list) == (1 if preset == "smoke" else 3)


@PRESETS
def test_a_perfect_model_differs_in_the_model_alone(preset: str) -> None:
    """Both are evaluated by as many simulations, from none on."""
    study = load_study("perfect-model", preset)
    learnt, perfect = study.variants.values()
    agent = learnt.agent.model_copy(update={"world_model": "simulator"})
    assert learnt.agent.world_model == "muzero"
    assert learnt.model_copy(update={"agent": agent, "evaluate": perfect.evaluate}) == perfect
    assert perfect.tasks.levels == 100
    jobs = build(study.variants).jobs.values()
    own = {"mcts-4", "mcts-16", "mcts-64"}
    for name, expected in (("muzero", own | {f"{n}@simulator" for n in own}), ("simulator", own)):
        found = {job.planner for job in jobs if job.id.startswith(f"{name}/evaluate/")}
        assert found == {None} | expected
    digests = [job.digest for job in jobs if job.stage == "evaluate" and job.seed == 0]
    assert len(set(digests)) == len(digests) - 1  # the random policy is the same in both
    assert perfect.planning.evaluate == "none"
    assert len(perfect.seed_list) == (1 if preset == "smoke" else 3)


@pytest.mark.parametrize("name", ready_made())
def test_a_smoke_run_learns_something(name: str) -> None:
    for variant in load_study(name, "smoke").variants.values():
        updates = planned_updates(variant.training, variant.transfer.steps)
        assert updates >= variant.training.updates_per_call
