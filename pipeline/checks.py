"""What types cannot say about a study: names, combinations, and what this version has."""

import math
import re
from collections.abc import Callable, Sequence

from pipeline.errors import StudyError, nearest, suggestion
from pipeline.toml import Key, brief, join_key, show
from policies.planner_names import LONGEST, PLANNERS, SIMULATOR, UNITS, parse
from stages.settings import COMPONENTS, GROUPS, Arm, Study, planned_updates
from tasks import registry
from tasks.contract import TaskError

# Components where no model is learnt, with world_model "none" or "simulator".
MODEL_FREE = ("encoder", "actor", "critic", "explorer")
REFERENCES = ("random", "oracle")  # folders beside the arms
RUN_FOLDERS = ("explore", "transfer", "evaluate", "report", "tasks")  # folders beside the variants
TAKEN = (*RUN_FOLDERS, "tensorboard", "study.toml", "run.json")  # no variant's name
MOST_SEEDS = 10_000
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDER_RULE = "use letters, digits, '.', '_' and '-', at most 100 of them"

Where = Callable[[Key], str]


def check_study(study: Study, where: Where, *, exploration: bool = True) -> Study:
    """Refuse what cannot be run; return the study with splits written out as tasks.

    Args:
        study: typed settings.
        where: names the file (or --set) that a key was read from, for error lines.
        exploration: an exploration may come from elsewhere (False), so none need be configured.

    Raises:
        StudyError: in one line.
    """
    _check_parts(study, where)
    _check_sizes(study, where)
    _check_seeds(study, where)
    study = _expand_tasks(study, where)
    _check_simulator(study, where)
    seen: set[str] = set()
    for name, arm in study.transfer.arms.items():
        _check_arm(study, name, arm, where, exploration)
        if name.lower() in seen:  # some file systems would give both one folder
            raise _fail(
                where,
                ("transfer", "arms", name),
                list(arm.carry),
                "another arm has that name but for its case; choose another",
            )
        seen.add(name.lower())
    _check_steps(study, where)
    return study


def check_variant_names(names: Sequence[str], file: str) -> None:
    """Variants become folders, so their names must differ, and from the run's own folders.

    Raises:
        StudyError: they do not.
    """
    seen: set[str] = set()
    for number, name in enumerate(names):
        key = f"{file}: variants[{number}].name = {show(name)}"
        if not _FOLDER_NAME.fullmatch(name):
            raise StudyError(f"{key}: {_FOLDER_RULE}")
        if name.lower() in TAKEN:
            raise StudyError(f"{key}: that name is taken by the run itself; choose another")
        if name.lower() in seen:
            raise StudyError(f"{key}: there is another variant of that name; choose another")
        seen.add(name.lower())


def _fail(where: Where, key: Key, value: object, message: str) -> StudyError:
    return StudyError(f"{where(key)}: {join_key(key)} = {brief(value)}: {message}")


def _check_parts(study: Study, where: Where) -> None:
    model = study.agent.world_model
    if model == "none":
        for role in ("collect", "learn", "evaluate"):
            if (planner := getattr(study.planning, role)) != "none":
                raise _fail(
                    where,
                    ("planning", role),
                    planner,
                    'agent.world_model is "none", so there is no model to plan with; use "none"',
                )
    if study.replay.priority and model == "rssm":
        raise _fail(
            where,
            ("replay", "priority"),
            study.replay.priority,
            'agents with world_model "rssm" learn values of what they imagine, so the sequences of'
            " their replay have no errors to be drawn by; use 0",
        )
    _check_planners(study, where)


def _check_planners(study: Study, where: Where) -> None:
    """Whether those that evaluate once more are planners, and each another one."""
    key, elites = ("evaluate", "planners"), study.planning.elites
    for name in study.evaluate.planners:
        try:
            planner, size, simulator = parse(name)
        except ValueError:
            raise _fail(where, key, name, f"no such planner; {_planner_meant(name)}") from None
        if study.evaluate.planners.count(name) > 1:
            raise _fail(where, key, name, "the same planner twice")
        if study.agent.world_model == "none" and planner != "none":
            raise _fail(
                where,
                key,
                name,
                'agent.world_model is "none", so there is no model to plan with; leave it out',
            )
        if UNITS.get(planner) == "samples" and size is not None and size < elites:
            least = f"at least {planner}-{elites}"
            raise _fail(where, key, name, f"planning.elites = {elites} are taken of them; {least}")
        if simulator is not None and study.agent.world_model != "muzero":
            has = f"agent.world_model is {show(study.agent.world_model)}"
            raise _fail(where, key, name, f'{has}; only agents with "muzero" plan in another model')


def _planner_meant(name: str) -> str:
    """The end of an error line: the nearest name of a planner, with the size that was given."""
    name, _, model = name.strip().partition("@")
    kind, _, size = name.partition("-")
    meant = nearest(kind, PLANNERS)
    if meant is None:
        return f"valid: {', '.join(PLANNERS)}, or with a size, as in mcts-16"
    digits = size.lstrip("0")
    if size and not digits:
        return f"did you mean none? {meant} of size 0 is the policy alone"
    if meant != "none" and digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST:
        meant = f"{meant}-{digits}"
    if meant != "none" and nearest(model, (SIMULATOR,)):
        meant = f"{meant}@{SIMULATOR}"
    return f"did you mean {meant}?"


def _check_sizes(study: Study, where: Where) -> None:
    model, behaviour = study.model, study.behaviour
    if model.recurrent % model.blocks:
        raise _fail(
            where,
            ("model", "blocks"),
            model.blocks,
            f"must divide model.recurrent = {model.recurrent}",
        )
    if behaviour.min_std >= behaviour.max_std:
        raise _fail(
            where,
            ("behaviour", "min_std"),
            behaviour.min_std,
            f"must be below behaviour.max_std = {behaviour.max_std}",
        )
    needed = {
        "rssm": (2, ""),
        "muzero": (
            study.muzero.unroll + study.learning.n_steps + study.muzero.history,
            "muzero.unroll + learning.n_steps + muzero.history",
        ),
        "simulator": (study.learning.n_steps + 1, "learning.n_steps + 1"),
        "none": (
            study.learning.n_steps + study.muzero.history,
            "learning.n_steps + muzero.history",
        ),
    }
    least, sum_of = needed[study.agent.world_model]
    if study.training.batch_length < least:
        raise _fail(
            where,
            ("training", "batch_length"),
            study.training.batch_length,
            f"must hold {sum_of} = {least} steps",
        )
    planning = study.planning
    if planning.elites > planning.samples:
        raise _fail(
            where,
            ("planning", "elites"),
            planning.elites,
            f"at most planning.samples = {planning.samples}",
        )
    if planning.std_to > planning.std_from:
        raise _fail(
            where,
            ("planning", "std_to"),
            planning.std_to,
            f"at most planning.std_from = {planning.std_from}",
        )


def _check_steps(study: Study, where: Where) -> None:
    """Whether exploration and fine-tuning are long enough to learn at all."""
    training, arms = study.training, study.transfer.arms.values()
    fine_tuned = any(not arm.relabelled_updates and not arm.equal_total for arm in arms)
    for stage, steps in (
        ("explore", study.explore.steps),
        ("transfer", study.transfer.steps if fine_tuned else 0),
    ):
        if steps and not planned_updates(training, steps):
            calls = training.updates_per_call * training.env_steps_per_update
            least = math.ceil(training.prefill_steps + calls)
            raise _fail(
                where,
                (stage, "steps"),
                steps,
                f"training.prefill_steps = {training.prefill_steps} leave no time for the first"
                f" {training.updates_per_call} updates, so nothing would be learnt; at least"
                f" {least}, or less prefill",
            )


def _check_seeds(study: Study, where: Where) -> None:
    key = ("seeds",)
    if isinstance(study.seeds, int) and study.seeds > MOST_SEEDS:
        raise _fail(where, key, study.seeds, f"how many; at most {MOST_SEEDS}")
    seeds = study.seed_list
    shown = study.seeds if isinstance(study.seeds, int) else list(study.seeds)
    if not seeds:
        raise _fail(where, key, shown, "at least one seed is needed")
    if min(seeds) < 0:
        raise _fail(where, key, shown, "seeds are not negative")
    if len(set(seeds)) < len(seeds):
        raise _fail(where, key, shown, "the same seed twice")
    observe = study.tasks.observe
    if len(set(observe)) < len(observe):
        raise _fail(where, ("tasks", "observe"), list(observe), "the same observation twice")


def _expand_tasks(study: Study, where: Where) -> Study:
    tasks = study.tasks
    names = _expanded(tasks.transfer, ("tasks", "transfer"), where)
    for name in names:
        if names.count(name) > 1:
            raise _fail(where, ("tasks", "transfer"), name, "the same task twice")
    names = names[: tasks.transfer_limit]
    if study.explore.steps and len(_expanded((tasks.explore,), ("tasks", "explore"), where)) != 1:
        raise _fail(
            where, ("tasks", "explore"), tasks.explore, "a split of tasks; name one task to explore"
        )
    updated = tasks.model_copy(update={"transfer": names})
    return study.model_copy(update={"tasks": updated})


def _check_simulator(study: Study, where: Where) -> None:
    """Whether the tasks can be planned in, where the simulator is the world model, or that of a
    planner at evaluations."""
    key: Key = ("agent", "world_model")
    value: object = study.agent.world_model
    explored = value == "simulator" and study.explore.steps > 0
    if value != "simulator":
        key = ("evaluate", "planners")
        value = next((n for n in study.evaluate.planners if parse(n).model is not None), None)
        if value is None:
            return
    if study.muzero.history != 1:
        raise _fail(
            where,
            ("muzero", "history"),
            study.muzero.history,
            "the simulator reads the whole state off one observation; use 1",
        )
    tasks = study.tasks
    for name in ((tasks.explore,) if explored else ()) + tasks.transfer:
        try:
            registry.pure(name)
        except TaskError as error:
            raise _fail(where, key, value, str(error)) from None
    if tasks.observe != ("state",):
        raise _fail(
            where,
            ("tasks", "observe"),
            list(tasks.observe),
            f'{join_key(key)} {show(value)} reads a task\'s state off its vector; use ["state"]',
        )
    if tasks.action_repeat != 1:
        raise _fail(
            where,
            ("tasks", "action_repeat"),
            tasks.action_repeat,
            f"{join_key(key)} {show(value)} takes single steps; use 1",
        )


def _expanded(names: tuple[str, ...], key: Key, where: Where) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        try:
            tasks = registry.expand((name,))
            for task in tasks:
                registry.check(task)
        except TaskError as error:
            raise _fail(where, key, name, str(error)) from None
        found += tasks
    return tuple(found)


def _check_arm(study: Study, name: str, arm: Arm, where: Where, exploration: bool) -> None:
    key: Key = ("transfer", "arms", name)
    if name.lower() in REFERENCES:
        raise _fail(where, key, list(arm.carry), f"{name} is a reference's name; choose another")
    if not _FOLDER_NAME.fullmatch(name):
        raise _fail(where, key, list(arm.carry), _FOLDER_RULE)
    for part in arm.carry:
        if part not in COMPONENTS and part not in GROUPS:
            hint = suggestion(part, (*GROUPS, *COMPONENTS))
            raise _fail(where, (*key, "carry"), part, f"unknown component; {hint}")
        if part == "explorer" and study.agent.curiosity == "none":
            raise _fail(
                where, (*key, "carry"), part, 'the agent has no explorer: agent.curiosity is "none"'
            )
    if (model := study.agent.world_model) in ("none", "simulator"):
        for part in arm.carry:
            missing = [c for c in GROUPS.get(part, (part,)) if c not in MODEL_FREE]
            if missing:
                raise _fail(
                    where,
                    (*key, "carry"),
                    part,
                    f"the agent has no {missing[0]}: agent.world_model is {show(model)};"
                    ' carry "policy", or of encoder, actor, critic and explorer',
                )
    if arm.prior_steps > study.transfer.steps:
        raise _fail(
            where,
            (*key, "prior_steps"),
            arm.prior_steps,
            f"more than transfer.steps = {study.transfer.steps}",
        )
    _check_relabelled(study, key, arm, where)
    if exploration and study.explore.steps == 0 and needs_exploration(arm):
        raise _fail(
            where,
            key,
            list(arm.carry),
            "it needs an exploration, and explore.steps = 0 leaves exploration out;"
            " keep only arms that carry nothing, or use craik transfer --from CHECKPOINT",
        )


def _check_relabelled(study: Study, key: Key, arm: Arm, where: Where) -> None:
    """Whether what an arm does with a relabelled replay goes together."""
    if study.agent.world_model == "none" and (arm.evaluate or "none") != "none":
        raise _fail(
            where,
            (*key, "evaluate"),
            arm.evaluate,
            'agent.world_model is "none", so there is no model to plan with; use "none"',
        )
    if not arm.relabelled_updates:
        if arm.learn != Arm.model_fields["learn"].default:
            raise _fail(
                where,
                (*key, "learn"),
                list(arm.learn),
                "for updates on a relabelled replay; set relabelled_updates, too",
            )
        return
    for name, value in (
        ("prior_steps", arm.prior_steps),
        ("replay_share", arm.replay_share),
        ("equal_total", arm.equal_total),
    ):
        if value:
            raise _fail(
                where, (*key, name), value, "an arm with relabelled_updates takes no env steps"
            )
    has = [name for name in COMPONENTS if name != "explorer" or arm.curious]
    if study.agent.world_model == "none":
        has = [name for name in has if name in MODEL_FREE]
    for part in arm.learn:
        if part not in has:
            hint = suggestion(part, has)
            raise _fail(where, (*key, "learn"), part, f"this arm has no such component; {hint}")
    if not arm.learn:
        raise _fail(where, (*key, "learn"), [], "name the components that are to learn")


def needs_exploration(arm: Arm) -> bool:
    """Whether an arm takes anything from the exploration."""
    from_replay = arm.replay_share > 0 or arm.relabelled_updates > 0
    return bool(arm.components) or arm.prior_steps > 0 or from_replay
