"""The graph of jobs of a study: what is due, what it needs, and what is done already.

A job is one stage on one folder. Its identity is a digest of the settings that matter to it and
of its inputs, so that seeds, arms, tasks and variants may be added to a study, and whatever else
is finished stays finished. Variants whose explorations have the same identity share one: the
later variant's folder is a relative link to the first one's.

    explore/seed-S -> transfer/TASK/ARM/seed-S -> evaluate/TASK/ARM/seed-S
    explore/random                             -> evaluate/TASK/ARM/seed-S/PLANNER
                                                  evaluate/TASK/{random,oracle}
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.checks import needs_exploration
from pipeline.toml import flatten, join_key
from policies.planner_names import evaluated, parse
from stages.folders import slug
from stages.settings import Arm, Study

Stage = Literal["explore", "transfer", "evaluate"]
STAGES: tuple[Stage, ...] = ("explore", "transfer", "evaluate")

# How fast and how safely a job runs, or what its films look like; not what comes out of it.
_IMMATERIAL = {
    "tasks.transfer_limit",
    "tasks.video_size",
    "training.workers",
    "training.step_timeout",
    "training.checkpoint_minutes",
    "replay.memory_gib",
    "evaluate.video_episodes",
    "evaluate.video_steps",
    "evaluate.planners",  # each is a job of its own, so that a finished study may get more
}
_TASK_OPTIONS = "tasks"
# What an exploration does not read, so that variants may differ in it and share one.
_NOT_EXPLORING = (
    "behaviour.rewarding_starts",
    "curiosity.transfer_scale",
    "curiosity.transfer_share",
)
_ROLES = ("collect", "learn", "evaluate")
_DISTILLING = ("learn_share", "learn_scale")
_LEARNING = (
    "agent",
    "model",
    "muzero",
    "behaviour",
    "learning",
    "curiosity",
    "training",
    "replay",
)


# Sections that an agent of this world model does not read at all.
_OTHER_FAMILIES = {"rssm": ("muzero", "learning")}


@dataclass(frozen=True)
class Exploration:
    """An exploration from elsewhere (`craik transfer --from`) and the digest of what it holds."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Job:
    """One stage on one folder. Plain data, picklable."""

    id: str  # the folder, relative to the run's root
    stage: Stage
    study: Study
    settings: dict[str, Any]  # those that matter, dotted
    digest: str
    seed: int
    task: str
    arm: str | None = None  # None for explorations, "random" and "oracle" for references
    random: bool = False  # the random baseline of the exploration
    planner: str | None = None  # of an evaluation beside the main one, which has None
    inputs: tuple[str, ...] = ()  # ids of the jobs it needs
    exploration: Path | None = None  # from elsewhere

    @property
    def env_steps(self) -> int:
        """Env steps of training; 0 for evaluations."""
        match self.stage:
            case "explore":
                return self.study.explore.steps
            case "transfer":
                return transfer_steps(self.study, self.study.transfer.arms[str(self.arm)])
            case "evaluate":
                return 0

    @property
    def relabelled_updates(self) -> int:
        """Updates on an exploration's relabelled replay, in the place of env steps."""
        if self.stage != "transfer":
            return 0
        return self.study.transfer.arms[str(self.arm)].relabelled_updates

    @property
    def curious(self) -> bool:
        """Whether its agent has an explorer."""
        if self.stage == "explore":
            return not self.random
        return self.arm in self.study.transfer.arms and self.study.transfer.arms[self.arm].curious

    @property
    def kind(self) -> tuple[Stage, bool]:
        """Jobs of one kind (and variant) run the same compiled training step."""
        return self.stage, self.curious


@dataclass(frozen=True)
class Graph:
    """Jobs by id in the order to run them, and the links of shared explorations."""

    jobs: dict[str, Job] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)  # link -> folder, relative to the root

    def only(self, stages: Iterable[Stage]) -> "Graph":
        """The part of the graph that belongs to some stages."""
        wanted = set(stages)
        jobs = {id: job for id, job in self.jobs.items() if job.stage in wanted}
        return Graph(jobs, self.links if "explore" in wanted else {})


def transfer_steps(study: Study, arm: Arm) -> int:
    """Env steps of fine-tuning that an arm gets."""
    if arm.relabelled_updates:
        return 0
    return study.transfer.steps + (study.explore.steps if arm.equal_total else 0)


def build(
    variants: Mapping[str | None, Study],
    *,
    oracles: Iterable[str] = (),
    exploration: Exploration | None = None,
    root: Path | None = None,
) -> Graph:
    """The jobs of a study and its variants, longest first within a stage.

    Args:
        variants: the study of each variant; the only key is None without variants.
        oracles: tasks that have a scripted policy.
        exploration: replaces the explorations of every seed and variant.
        root: the run's folder, so that of variants with equal explorations the one that has it
            already keeps it.
    """
    graph = Graph()
    explored: dict[str, str] = {}  # digest -> id, across variants
    builders = [
        _Builder(graph, explored, f"{name}/" if name else "", study, exploration)
        for name, study in variants.items()
    ]
    for builder in sorted(builders, key=lambda builder: not builder.has_explored(root)):
        builder.add_explorations()
    for builder in builders:
        builder.add_transfers(set(oracles))
    order = {stage: number for number, stage in enumerate(STAGES)}
    jobs = sorted(graph.jobs.values(), key=lambda job: (order[job.stage], -job.env_steps))
    return Graph({job.id: job for job in jobs}, graph.links)


@dataclass
class _Builder:
    """Adds the jobs of one variant to the graph."""

    graph: Graph
    explored: dict[str, str]
    prefix: str
    study: Study
    exploration: Exploration | None

    def has_explored(self, root: Path | None) -> bool:
        """Whether this variant's own folder holds explorations, not links to another's."""
        folder = (root or Path()) / self.prefix / "explore"
        return root is not None and any(
            not path.is_symlink() for path in folder.glob("*") if path.is_dir()
        )

    def add_explorations(self) -> None:
        """An exploration per seed, and the random policy that it is compared with."""
        if self.exploration is None and self.study.explore.steps > 0:
            for seed in self.study.seed_list:
                self._explore(f"explore/seed-{seed}", seed)
            self._explore("explore/random", 0, random=True)

    def add_transfers(self, oracles: set[str]) -> None:
        """Fine-tuning and evaluation of every task, arm and seed, and the references."""
        study = self.study
        for task in study.tasks.transfer:
            for arm in study.transfer.arms:
                for seed in study.seed_list:
                    transfer = self._transfer(task, arm, seed)
                    for planner in (None, *study.also_evaluated_by(arm)):
                        self._evaluate(transfer, planner)
            for reference in ("random", *(("oracle",) if task in oracles else ())):
                self._reference(task, reference)

    def _explore(self, folder: str, seed: int, *, random: bool = False) -> None:
        task = self.study.tasks.explore
        sections = ("training",) if random else (*_LEARNING, "planning")
        drop = (*_NOT_EXPLORING, *_not_planning(self.study, "collect", "learn"))
        settings = relevant(self.study, (*sections, "explore"), drop=drop)
        identity = digest("explore", settings, seed, task, random=random)
        id = self.prefix + folder
        if (shared := self.explored.get(identity)) is not None:
            self.graph.links[id] = shared
            return
        self.explored[identity] = id
        self.graph.jobs[id] = Job(
            id, "explore", self.study, settings, identity, seed, task, random=random
        )

    def _transfer(self, task: str, arm: str, seed: int) -> Job:
        row = self.study.transfer.arms[arm]
        drop = _not_planning(self.study, "collect", "learn")
        settings = relevant(self.study, (*_LEARNING, "planning", "evaluate"), drop=drop)
        offline = () if row.relabelled_updates else ("relabelled_updates", "learn")
        table = row.model_dump(mode="json", exclude={"evaluate", *offline})
        settings |= {f"arm.{key}": value for key, value in table.items()}
        settings["arm.carry"] = list(row.components)
        settings["transfer.steps"] = transfer_steps(self.study, row)
        inputs, digests, source = self._carried(row, seed)
        identity = digest("transfer", settings, seed, task, inputs=digests)
        id = f"{self.prefix}transfer/{slug(task)}/{arm}/seed-{seed}"
        job = Job(
            id,
            "transfer",
            self.study,
            settings,
            identity,
            seed,
            task,
            arm,
            inputs=inputs,
            exploration=source,
        )
        self.graph.jobs[id] = job
        return job

    def _carried(self, arm: Arm, seed: int) -> tuple[tuple[str, ...], list[str], Path | None]:
        """Job ids, digests and outside path of what an arm takes from the exploration."""
        if not needs_exploration(arm):
            return (), [], None
        if self.exploration is not None:
            return (), [self.exploration.digest], self.exploration.path
        id = f"{self.prefix}explore/seed-{seed}"
        id = self.graph.links.get(id, id)
        return (id,), [self.graph.jobs[id].digest], None

    def _evaluate(self, transfer: Job, planner: str | None) -> None:
        acting = planner or self.study.evaluated_by(str(transfer.arm))
        planning = evaluated(acting, self.study.planning)
        study = self.study.model_copy(update={"planning": planning})
        drop = _not_planning(study, "evaluate")
        settings = relevant(study, ("planning", "evaluate"), drop=drop)
        if (model := parse(acting).model) is not None:
            settings["planning.model"] = model  # of the name alone: no setting says so
        id = transfer.id.replace("transfer/", "evaluate/", 1)
        if planner is not None:
            id = f"{id}/{planner}"
        self.graph.jobs[id] = Job(
            id,
            "evaluate",
            self.study,
            settings,
            digest("evaluate", settings, transfer.seed, transfer.task, inputs=[transfer.digest]),
            transfer.seed,
            transfer.task,
            transfer.arm,
            planner=planner,
            inputs=(transfer.id,),
        )

    def _reference(self, task: str, reference: str) -> None:
        settings = relevant(self.study, ("evaluate",))
        id = f"{self.prefix}evaluate/{slug(task)}/{reference}"
        identity = digest("evaluate", settings, 0, task, inputs=[reference])
        self.graph.jobs[id] = Job(
            id, "evaluate", self.study, settings, identity, 0, task, reference
        )


def relevant(study: Study, sections: Iterable[str], drop: Iterable[str] = ()) -> dict[str, Any]:
    """The material settings of some sections and of how tasks are built, dotted."""
    data = study.model_dump(mode="json", by_alias=True)
    tasks = {k: v for k, v in data["tasks"].items() if k not in ("explore", "transfer")}
    chosen = {_TASK_OPTIONS: tasks} | {name: data[name] for name in sections}
    without = _IMMATERIAL | set(drop)
    if not study.replay.priority:  # all sequences are drawn alike, as before there was a choice
        without |= {"replay.priority", "replay.importance"}
    if study.muzero.history == 1:  # a latent knows one observation, as before there was a choice
        without |= {"muzero.history"}
    absent = _OTHER_FAMILIES.get(study.agent.world_model, ())
    dotted = {join_key(key): value for key, value in flatten(chosen).items()}
    return {
        key: value
        for key, value in dotted.items()
        if key not in without and key.split(".")[0] not in absent
    }


def _not_planning(study: Study, *roles: str) -> tuple[str, ...]:
    """Settings of planning that do not matter to who plans in these roles: the other roles, and
    where nobody plans what planners are like."""
    planning = study.planning
    keys = [join_key(key) for key in flatten(planning.model_dump(by_alias=True))]
    searches = study.agent.world_model != "rssm" and "learn" in roles
    planners = {getattr(planning, role) for role in roles}
    kept = {
        "search": searches or "mcts" in planners,
        "sampling": bool(planners & {"cem", "mppi"}),
    }
    falls = planning.search.temperature_end is not None

    distils = study.agent.world_model == "rssm" and "learn" in roles and planning.learn != "none"

    def matters(key: str) -> bool:
        if key in _ROLES:
            return key in roles
        if key.startswith("search.temperature_"):
            return planning.collect == "mcts" and "collect" in roles and falls
        if key in _DISTILLING:
            return distils
        return kept["search" if key.startswith("search.") else "sampling"]

    return tuple(f"planning.{key}" for key in keys if not matters(key))


def digest(
    stage: Stage,
    settings: Mapping[str, Any],
    seed: int,
    task: str,
    *,
    inputs: Iterable[str] = (),
    random: bool = False,
) -> str:
    """The identity of a job, 16 hexadecimal digits."""
    whole = {
        "stage": stage,
        "settings": dict(settings),
        "seed": seed,
        "task": task,
        "inputs": list(inputs),
        "random": random,
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
