"""The answer in words, computed from the results and no bolder than they are.

A difference between two arms is claimed when both have at least three seeds and their 95 %
intervals do not overlap (stricter than an interval of the difference); an effect of the 2 x 2
design when it has at least three seeds and its interval excludes zero. All else is "not shown".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stages import design
from stages.formats import listing, measured, phrase, plural, shared_decimals, short_task
from stages.result_types import (
    AggregateArm,
    ArmResult,
    DesignResult,
    Effect,
    LoopResult,
    VariantResults,
)
from stages.settings import Arm
from tasks.contract import Metric

ENOUGH = 3  # seeds, to claim a difference
FEW = 4  # comparisons of variants, all of which are told
QUESTION = "Which part carried the advantage: the world model, the policy, or both?"
NOTHING_CARRIED = "Which does better, from nothing?"
CHANCE = "Three seeds agree in sign by chance in one comparison of four."
WHEN_TO_PLAN = "When does planning help?"


@dataclass(frozen=True)
class Answer:
    """A verdict in a few words, and the sentence that holds its figures."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    arm: str
    iqm: float
    interval: tuple[float, float] | None
    runs: int
    values: tuple[float, ...] = ()


def question(arms: Iterable[Arm], planned: bool = False) -> str:
    """What a study asks, by whether any of its arms carries something, and whether its final agents
    were evaluated by more than one planner."""
    if any(arm.components for arm in arms):
        return QUESTION
    return WHEN_TO_PLAN if planned else NOTHING_CARRIED


def answer(results: LoopResult, arms: dict[str, Arm]) -> Answer:
    """The answer over all tasks: of the one task, or of the aggregate."""
    if len(results.tasks) == 1:
        return task_answer(results, next(iter(results.tasks)), arms)
    if not results.tasks:
        return Answer("No answer yet.", "The study names no task to transfer to.")
    whole = results.aggregate
    better, worse = rivals(arms, whole.arms if whole else {})
    if whole is None or better is None or worse is None:
        return Answer("No answer yet.", "No two arms have finished all tasks; see each task below.")
    sides = [_aggregate_side(name, whole.arms[name]) for name in (better, worse)]
    least = min(
        _seeds(task.arms[name]) for task in results.tasks.values() for name in (better, worse)
    )
    over = f"Over {plural(len(whole.tasks), 'task')} and {plural(sides[0].runs, 'run')} per arm, "
    figures = _compare(sides[0], sides[1], None, least) + _effects(whole.effects, None)
    return Answer(verdict(sides[0], sides[1], whole.effects, least), f"{over}{figures}.")


def task_answer(results: LoopResult, task: str, arms: dict[str, Arm]) -> Answer:
    """The answer on one task."""
    result = results.tasks[task]
    finished = {name: arm for name, arm in result.arms.items() if arm.iqm is not None}
    better, worse = rivals(arms, finished)
    start = f"On {short_task(task)}, "
    if better is None or worse is None:
        if not finished:
            return Answer("No answer yet.", start + "no arm has been evaluated yet.")
        name, arm = next(iter(finished.items()))
        what = measured(arm.iqm, arm.interval, result.metric)
        text = f"{start}{phrase(name)} reached {what} over {plural(_seeds(arm), 'seed')}"
        return Answer("Nothing to compare.", text + "; there is no other arm to compare it with.")
    sides = [_side(name, finished[name]) for name in (better, worse)]
    least = min(side.runs for side in sides)
    runs = {side.runs for side in sides}
    over = plural(least, "seed") if len(runs) == 1 else f"{sides[0].runs} and {sides[1].runs} seeds"
    text = start + _compare(sides[0], sides[1], result.metric, least) + f" over {over}"
    text += _effects(result.effects, result.metric) + "."
    return Answer(verdict(sides[0], sides[1], result.effects, least), text)


def variants_answer(results: VariantResults, arms: dict[str, Arm]) -> Answer:
    """How the later variants compare with the first, by the arm that carries the most. Of many
    comparisons only the best and the worst of every task are told."""
    first, *others = results.variants
    arm = design.fullest(arms) or next(iter(arms), "")
    said: dict[str, list[tuple[float, str]]] = {}  # by task: IQM, and the comparison
    wins, losses = 0, 0
    for name in others:
        for task, result in results.variants[name].tasks.items():
            base = results.variants[first].tasks.get(task)
            if base is None or arm not in base.arms or arm not in result.arms:
                continue
            better, worse = _side(name, result.arms[arm]), _side(first, base.arms[arm])
            if not better.runs or not worse.runs:
                continue
            least = min(better.runs, worse.runs)
            gain = shown_difference(better, worse) if least >= ENOUGH else 0
            wins, losses = wins + (gain > 0), losses + (gain < 0)
            verb = {1: "beats", -1: "does worse than", 0: "shows no difference from"}[gain]
            digits = shared_decimals(
                result.metric, (better.iqm, better.interval), (worse.iqm, worse.interval)
            )
            ours, theirs = (
                measured(side.iqm, side.interval, result.metric, digits=digits)
                for side in (better, worse)
            )
            told = (
                f"on {short_task(task)}, {name} {verb} {first}: IQM {ours} against {theirs} "
                f"over {plural(least, 'seed')}"
            )
            said.setdefault(task, []).append((better.iqm, told))
    if not said and not any(
        results.variants[first].tasks.keys() & results.variants[name].tasks.keys()
        for name in others
    ):
        return Answer("An answer per variant.", "No task is common to two of them; see each below.")
    if not said:
        return Answer("No answer yet.", "No two variants have finished the same arm.")
    number = sum(len(rows) for rows in said.values())
    if number > FEW:
        said = {task: [max(rows), min(rows)][: len(rows)] for task, rows in said.items()}
    shown = [told for rows in said.values() for _, told in rows]
    rest = f" The other {number - len(shown)} stand below." if len(shown) < number else ""
    sentence = f"{_capital(phrase(arm))}, " + "; ".join(shown) + f".{rest}"
    if not wins and not losses:
        return Answer(f"No variant is shown to differ from {first}.", sentence)
    count = plural(number, "comparison")
    return Answer(f"Against {first}: {wins} better, {losses} worse, of {count}.", sentence)


def planning_answer(loops: Mapping[str | None, LoopResult]) -> Answer | None:
    """Where the final agents do better by another planner than by the study's own one, each agent
    compared with itself; None where no other planner acted.

    Args:
        loops: results by variant; None is the only key without variants.
    """
    said, helped, hurt, number = [], 0, 0, 0
    for variant, results in loops.items():
        for task, result in results.tasks.items():
            for name, arm in result.arms.items():
                gains = {p: r.gain for p, r in arm.planners.items() if r.gain is not None}
                if not gains:
                    continue
                main = next(p for p, r in arm.planners.items() if r.gain is None)
                shown = {p: gain for p, gain in gains.items() if _shown(gain)}
                up = [p for p, gain in shown.items() if _shown(gain) > 0]
                down = [p for p in shown if p not in up]
                number, helped, hurt = number + len(gains), helped + len(up), hurt + len(down)
                most = [max(up, key=lambda p: shown[p].value)] if up else []
                least = [min(down, key=lambda p: shown[p].value)] if down else []
                who = ", ".join(filter(None, [variant, name if len(result.arms) > 1 else None]))
                said += [
                    f"on {short_task(task)}{who and f', {who}'}, {planner} against {main} "
                    + measured(gain.value, gain.interval, result.metric, signed=True)
                    for planner, gain in ((p, shown[p]) for p in [*most, *least])
                ]
    if not number:
        return None
    of = f"of {plural(number, 'comparison')}"
    if not said:
        sentence = f"None {of} of a planner with the study's own is told apart."
        return Answer("Planning is not shown to help or hurt.", sentence)
    sentence = f"The largest differences, each agent compared with itself: {'; '.join(said)}."
    return Answer(f"Planning helped in {helped} and hurt in {hurt} {of}.", f"{sentence} {CHANCE}")


def rivals(arms: dict[str, Arm], finished: Mapping[str, object]) -> tuple[str | None, str | None]:
    """The two arms the answer compares: the fullest against the baseline, of those finished."""
    known = {name: arm for name, arm in arms.items() if name in finished}
    worse = design.baseline(known)
    better = design.fullest({name: arm for name, arm in known.items() if name != worse})
    if better is None:
        better = next((name for name in known if name != worse), None)
    return better, worse


def verdict(better: Side, worse: Side, effects: DesignResult | None, seeds: int) -> str:
    """The headline."""
    if seeds < ENOUGH:
        return "Too few seeds to tell."
    gain = shown_difference(better, worse)
    model, policy = (_shown(effects.model), _shown(effects.policy)) if effects else (0, 0)
    parts = {"the world model": model, "the policy": policy}
    helped = [name for name, direction in parts.items() if direction > 0]
    hurt = [name for name, direction in parts.items() if direction < 0]
    if gain > 0 and len(helped) == 2:
        return "Both carried the advantage: the world model and the policy."
    if gain > 0 and helped:
        other = "the policy" if helped == ["the world model"] else "the world model"
        rest = f"{other} held it back" if hurt else f"an effect of {other} is not shown"
        return f"{helped[0].capitalize()} carried the advantage; {rest}."
    if gain > 0:
        if better.arm != "both":
            return f"{_capital(phrase(better.arm))} helped."
        return "Carrying both helped; which part did is not shown."
    if gain < 0:
        return f"{_capital(phrase(better.arm))} did worse than {_noun(worse.arm)}."
    # A part that "helped" an arm which beats nothing would claim more than three pairs can show.
    if hurt:
        said = [
            f"{listing(names)} {verb}"
            for names, verb in ((helped, "helped"), (hurt, "hurt"))
            if names
        ]
        return (
            _capital(" and ".join(said))
            + f"; {_noun(better.arm)} against {_noun(worse.arm)} shows no difference."
        )
    return "No difference shown."


def shown_difference(better: Side, worse: Side) -> int:
    """1 or -1 where the intervals lie apart, else 0."""
    if better.interval is None or worse.interval is None:
        return 0
    if better.interval[0] > worse.interval[1]:
        return 1
    return -1 if better.interval[1] < worse.interval[0] else 0


def _compare(better: Side, worse: Side, metric: Metric | None, seeds: int) -> str:
    digits = shared_decimals(metric, (better.iqm, better.interval), (worse.iqm, worse.interval))
    first = measured(better.iqm, better.interval, metric, digits=digits)
    second = measured(worse.iqm, worse.interval, metric, digits=digits)
    name = {"success": "IQM success rate", "score": "IQM score", "return": "IQM"}.get(
        metric or "", "normalised IQM"
    )
    figures = f"{name} {first} against {second}"
    gain = shown_difference(better, worse)
    pair = f"{phrase(better.arm)} and {_noun(worse.arm)}"
    if seeds < ENOUGH:
        return f"too few seeds to show a difference between {pair}: {figures}"
    if gain == 0:
        return f"no difference is shown between {pair}: {figures}"
    verb = "beat" if gain > 0 else "did worse than"
    return f"{phrase(better.arm)} {verb} {_noun(worse.arm)}: {figures}"


def _effects(effects: DesignResult | None, metric: Metric | None) -> str:
    if effects is None:
        return ""
    parts = {"model": effects.model, "policy": effects.policy, "interaction": effects.interaction}
    digits = shared_decimals(metric, *((part.value, part.interval) for part in parts.values()))
    figures = {
        name: measured(part.value, part.interval, metric, signed=True, digits=digits)
        for name, part in parts.items()
    }
    text = (
        f"; the model contributes {figures['model']}, the policy {figures['policy']}, "
        f"their interaction {figures['interaction']}"
    )
    return text + (
        " (both effects include the encoder)"
        if effects.includes_encoder
        else " (beyond what the encoder alone brings)"
    )


def separated(better: ArmResult, worse: ArmResult) -> bool:
    """Whether every seed of one lies above every seed of the other."""
    ours, theirs = _values(better), _values(worse)
    return bool(ours and theirs) and min(ours) > max(theirs)


def _shown(effect: Effect) -> int:
    if effect.interval is None or len(effect.by_seed) < ENOUGH:
        return 0
    return 1 if effect.interval[0] > 0 else -1 if effect.interval[1] < 0 else 0


def _side(name: str, arm: ArmResult) -> Side:
    values = _values(arm)
    return Side(name, arm.iqm or 0.0, arm.interval, len(values), values)


def _aggregate_side(name: str, arm: AggregateArm) -> Side:
    return Side(name, arm.iqm, arm.interval, arm.runs)


def _values(arm: ArmResult) -> tuple[float, ...]:
    return tuple(row.final for row in arm.seeds if row.final is not None)


def _seeds(arm: ArmResult) -> int:
    return len(_values(arm))


def _noun(arm: str) -> str:
    return "scratch" if arm == "scratch" else phrase(arm)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
