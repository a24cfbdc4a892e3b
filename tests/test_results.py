"""`results.json` against numbers computed here from the synthetic run's own files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stages import design, results, scores, statistics
from stages.result_types import SeedResult, StudyResults, VariantResults
from stages.settings import Arm
from tasks.contract import TaskError
from tests import synthetic_run
from tests.synthetic_run import DESK

PUSH = DESK[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_run.write(tmp_path_factory.mktemp("run"), videos=False)


@pytest.fixture(scope="module")
def found(run: Path) -> StudyResults:
    return study(run)


def study(root: Path) -> StudyResults:
    collected = results.collect(root)
    assert isinstance(collected, StudyResults)
    return collected


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_seeds_hold_the_means_of_their_episodes(run: Path, found: StudyResults) -> None:
    both = found.tasks[PUSH].arms["both"]
    assert [row.seed for row in both.seeds] == [0, 1, 2]
    folder = Path("desk-push_left-sparse", "both", "seed-1")
    episodes = rows(run / "evaluate" / folder / "episodes.jsonl")
    for field, checkpoint in (("final", "final"), ("zero_shot", "start")):
        values = [row["value"] for row in episodes if row["checkpoint"] == checkpoint]
        assert getattr(both.seeds[1], field) == pytest.approx(np.mean(values))
    curve = [
        row for row in rows(run / "transfer" / folder / "metrics.jsonl")
        if row["kind"] == "evaluation"
    ]  # fmt: skip
    values = [row["value"] for row in curve]
    # eleven points at equal distances: the ends count half
    area = (sum(values) - (values[0] + values[-1]) / 2) / 10
    assert both.seeds[1].area_under_curve == pytest.approx(area)
    assert (both.env_steps, both.updates) == (10_000, 2_500)


def test_interval_holds_the_mean_and_references_are_read(found: StudyResults) -> None:
    task = found.tasks[PUSH]
    assert task.metric == "return"
    for arm in task.arms.values():
        finals = [row.final for row in arm.seeds if row.final is not None]
        assert arm.iqm == pytest.approx(np.mean(finals))  # three seeds: nothing is cut
        assert arm.interval is not None
        assert min(finals) <= arm.interval[0] <= arm.iqm <= arm.interval[1] <= max(finals)
    assert task.references["random"] == pytest.approx(1.0, abs=0.1)
    assert task.references["oracle"] == pytest.approx(60.0, rel=0.1)


def test_every_pair_is_compared_and_more_carried_is_the_hypothesis(found: StudyResults) -> None:
    pairs = {(pair.better, pair.worse): pair for pair in found.tasks[PUSH].comparisons}
    assert len(pairs) == 6
    assert pairs["both", "scratch"].probability_of_improvement == 1.0
    assert {worse for _, worse in pairs} == {"scratch", "model", "policy"}


def test_effects_are_paired_by_seed(found: StudyResults) -> None:
    task = found.tasks[PUSH]
    assert task.effects is not None
    assert (task.effects.origin, task.effects.includes_encoder) == ("scratch", True)
    cells = {name: np.array([row.final for row in arm.seeds]) for name, arm in task.arms.items()}
    model = (cells["model"] - cells["scratch"] + cells["both"] - cells["policy"]) / 2
    np.testing.assert_allclose(task.effects.model.by_seed, model)
    assert task.effects.model.value == pytest.approx(model.mean())


def test_aggregate_is_normalised_by_random_and_oracle(found: StudyResults) -> None:
    assert found.aggregate is not None
    assert found.aggregate.arms["both"].runs == 6
    scaled = [
        (row.final - task.references["random"])
        / (task.references["oracle"] - task.references["random"])
        for task in found.tasks.values()
        for row in task.arms["both"].seeds
        if row.final is not None
    ]
    middle = sorted(scaled)[1:-1]  # floor(6 / 4) = 1 is cut at each end
    assert found.aggregate.arms["both"].iqm == pytest.approx(np.mean(middle))


def test_exploration_stands_beside(found: StudyResults) -> None:
    assert found.exploration is not None
    assert found.exploration.env_steps == 16_000
    assert found.exploration.updates == 4_000
    assert found.exploration.moved["puck"] == pytest.approx(0.85)
    assert found.exploration.random_moved["puck"] == pytest.approx(0.12)
    assert found.missing == []


def test_written_file_follows_the_schema_and_is_the_same_again(
    run: Path, found: StudyResults, tmp_path: Path
) -> None:
    results.write(found, tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert StudyResults.model_validate_json(text) == found
    results.write(study(run), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == text
    assert set(json.loads(text)["tasks"][PUSH]["arms"]["both"]["seeds"][0]) == {
        "seed", "zero_shot", "final", "area_under_curve",
    }  # fmt: skip


def test_documented_keys_are_those_of_the_schema() -> None:
    text = (Path(__file__).parents[1] / "docs" / "results-schema.md").read_text()
    for model in (StudyResults, VariantResults):
        schema = model.model_json_schema()
        for part in (schema, *schema["$defs"].values()):
            for key in part["properties"]:
                assert f"`{key}`" in text, key


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        SeedResult(seed=0, zero_shot=math.nan, final=None, area_under_curve=None)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=1, videos=False)
    both = study(root).tasks[PUSH].arms["both"]
    assert both.iqm == both.seeds[0].final
    assert both.interval is None


def test_encoder_arm_is_the_origin(tmp_path: Path) -> None:
    arms = {**synthetic_run.ARMS, "encoder": ["encoder"]}
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], arms=arms, videos=False)
    effects = study(root).tasks[PUSH].effects
    assert effects is not None
    assert (effects.origin, effects.includes_encoder) == ("encoder", False)


def test_controls_take_no_part_in_the_design() -> None:
    arms = {
        "prior": Arm(carry=(), prior_steps=100, replay_share=0.0, equal_total=False),
        **{name: Arm.model_validate({"carry": carry}) for name, carry in
           synthetic_run.ARMS.items()},
    }  # fmt: skip
    cells = design.cells(arms)
    assert cells is not None
    assert cells.origin == "scratch"
    assert design.baseline(arms) == "scratch"
    assert design.fullest(arms) == "both"
    assert arms["policy"].curious
    arms |= {  # without an explorer in both of its arms a policy makes a design as well
        "policy": Arm(carry=("policy",)),
        "dull": Arm(carry=("world_model", "policy")),
    }
    cells = design.cells(arms)
    assert cells is not None
    assert (cells.policy, cells.both) == ("policy", "dull")
    del arms["dull"]
    assert design.cells(arms) is None


def test_crafter_score_over_the_episodes_of_a_seed(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=("crafter/reward",), videos=False)
    task = study(root).tasks["crafter/reward"]
    assert task.metric == "score"
    path = root / "evaluate" / "crafter-reward" / "both" / "seed-0" / "episodes.jsonl"
    counts = [row["achievements"] for row in rows(path) if row["checkpoint"] == "final"]
    shares = [np.mean([count[name] > 0 for count in counts]) for name in counts[0]]
    expected = math.exp(np.mean([math.log(1 + 100 * share) for share in shares])) - 1
    assert task.arms["both"].seeds[0].final == pytest.approx(expected)
    assert task.arms["both"].achievements is not None
    assert len(task.arms["both"].achievements) == 22
    assert "oracle" not in task.references


def test_crafter_names_that_never_happened_count_as_zero() -> None:
    assert scores.value_of([{"achievements": {"wake_up": 1}}], "score") == pytest.approx(
        math.exp(math.log(101) / 22) - 1
    )


def test_metric_is_read_off_the_episodes() -> None:
    success = [{"value": 1, "success": 1, "return": 7.0}, {"value": 0, "success": 0, "return": 2}]
    assert scores.metric_of(success) == "success"
    assert scores.value_of(success, "success") == 0.5
    assert scores.metric_of([{"value": 0, "success": 0, "return": 0.0}]) is None
    assert scores.metric_of([{"value": 0, "success": 0, "return": 0, "metric": "success"}])


def test_partial_run_says_what_is_missing(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    slug = synthetic_run.slug(PUSH)
    (root / "evaluate" / slug / "both" / "seed-2" / "episodes.jsonl").unlink()
    metrics = root / "transfer" / slug / "model" / "seed-1" / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:900])  # cut off inside a line
    (metrics.parent / "done.json").unlink()
    (root / "evaluate" / slug / "model" / "seed-1" / "episodes.jsonl").unlink()
    (metrics.parent / "error.txt").write_text("Traceback\nValueError: the arm fell off\n\n")
    found = study(root)
    both, model = (found.tasks[PUSH].arms[name] for name in ("both", "model"))
    assert both.seeds[2].final is None
    assert both.seeds[2].area_under_curve is not None
    assert model.seeds[1].area_under_curve is None  # an unfinished curve is not comparable
    assert f"final evaluation of both on {PUSH}: seed 2" in found.missing
    assert f"fine-tuning of model on {PUSH}: seed 1" in found.missing
    assert f"transfer of model on {PUSH}, seed 1, failed: ValueError: the arm fell off" in (
        found.missing
    )
    effects = found.tasks[PUSH].effects
    assert effects is not None
    assert effects.seeds == [0]


def test_random_policy_is_compared_at_equal_env_steps(tmp_path: Path) -> None:
    """An exploration stopped half-way meets the random policy as it was half-way."""
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=1, videos=False)
    path = root / "explore" / "seed-0" / "metrics.jsonl"
    kept = [row for row in rows(path) if row["env_steps"] <= 8_000]
    synthetic_run.write_lines(path, kept)
    exploration = study(root).exploration
    assert exploration is not None
    assert exploration.env_steps == 8_000
    assert exploration.random_moved["puck"] == pytest.approx(0.12 / 2)


def test_a_point_of_the_curve_is_every_seed_s_evaluation_of_that_number(tmp_path: Path) -> None:
    """Episodes that end early put one seed's evaluations some env steps beside another's."""
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=3, videos=False)
    heights: dict[int, list[float]] = {}
    for seed in range(3):
        path = root / "transfer" / synthetic_run.slug(PUSH) / "both" / f"seed-{seed}"
        table = rows(path / "metrics.jsonl")
        for number, row in enumerate(r for r in table if r["kind"] == "evaluation"):
            row["env_steps"] += 3 * seed if number else 0
            if (number, seed) == (4, 1):
                row["value"] = None
            else:
                heights.setdefault(number, []).append(row["value"])
        synthetic_run.write_lines(path / "metrics.jsonl", table)
    curve = study(root).tasks[PUSH].arms["both"].curve
    assert [point.env_steps for point in curve] == [0, *range(1003, 11_003, 1000)]
    assert [point.seeds for point in curve] == [2 if number == 4 else 3 for number in range(11)]
    for number, point in enumerate(curve):  # of fewer than four seeds the IQM is the mean
        assert point.iqm == pytest.approx(np.mean(heights[number]))


def test_not_a_number_in_a_file_becomes_unknown(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=1, videos=False)
    path = root / "evaluate" / synthetic_run.slug(PUSH) / "both" / "seed-0" / "episodes.jsonl"
    path.write_text('{"seed": 0, "checkpoint": "final", "return": NaN, "value": NaN}\n')
    assert study(root).tasks[PUSH].arms["both"].seeds[0].final is None


def test_variants_stand_side_by_side(tmp_path: Path) -> None:
    root = synthetic_run.write_variants(
        tmp_path, {"plain": 1.0, "better": 3.0}, tasks=DESK[:1], videos=False
    )
    found = results.collect(root)
    assert isinstance(found, VariantResults)
    assert list(found.variants) == ["plain", "better"]  # the study's order, not the alphabet's
    pairs = {pair.arm: pair for pair in found.comparisons}
    assert pairs["both"].probability_of_improvement == 1.0
    assert pairs["scratch"].probability_of_improvement == 0.5
    results.write(found, tmp_path / "results.json")
    assert set(json.loads((tmp_path / "results.json").read_text())) >= {"study", "variants"}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no run here"):
        results.collect(tmp_path)


def test_levels_of_the_training_stand_beside_unseen_ones(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    assert study(root).tasks[PUSH].arms["both"].seen is None
    synthetic_run.confine(root, 10, 1.5)
    found = study(root)
    assert found.levels == 10
    both = found.tasks[PUSH].arms["both"]
    assert both.seen is not None
    assert both.iqm is not None
    assert both.interval is not None
    finals = {row.seed: 1.5 * (row.final or 0.0) for row in both.seeds}
    assert both.seen.by_seed == pytest.approx(finals)
    assert both.seen.iqm == pytest.approx(1.5 * both.iqm)
    assert both.seen.interval == pytest.approx([1.5 * x for x in both.interval])


def test_planners_stand_beside_the_main_one(tmp_path: Path) -> None:
    """By the same agents on the same episodes; no other figure moves."""
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    before = study(root).tasks[PUSH]
    assert list(before.arms["both"].planners) == ["none"]
    assert before.arms["both"].planners["none"].foresight is None
    synthetic_run.replan(root, {"mppi": 1.5, "cem": 0.5})
    found = study(root)
    assert found.missing == []
    after = found.tasks[PUSH]
    assert after.comparisons == before.comparisons
    both = after.arms["both"]
    assert both.model_copy(update={"planners": before.arms["both"].planners}) == before.arms["both"]
    assert list(both.planners) == ["none", "mppi", "cem"]  # the study's order
    finals = {row.seed: row.final for row in both.seeds}
    assert both.planners["none"].by_seed == finals
    assert both.interval is not None
    assert both.iqm is not None
    for planner, lift in (("mppi", 1.5), ("cem", 0.5)):
        result = both.planners[planner]
        assert result.by_seed == pytest.approx({s: lift * (v or 0.0) for s, v in finals.items()})
        assert result.iqm == pytest.approx(lift * both.iqm)
        assert result.interval == pytest.approx([lift * x for x in both.interval])
        assert result.episodes == 3 * 32
        assert result.foresight is not None
        assert result.foresight.excess == pytest.approx(2 * lift)
        assert result.foresight.achieved == pytest.approx(both.iqm / 2)
        assert result.foresight.expected == pytest.approx(both.iqm / 2 + 2 * lift)
        assert result.foresight.interval == pytest.approx((2 * lift, 2 * lift))
        gains = [(lift - 1) * (value or 0.0) for value in finals.values()]
        assert result.gain is not None
        assert result.gain.by_seed == pytest.approx(gains)
        assert result.gain.value == pytest.approx(sum(gains) / 3)
        assert result.gain.interval is not None
        assert result.gain.interval[0] < result.gain.value < result.gain.interval[1]
    assert both.planners["none"].gain is None
    assert both.planners["none"].foresight is not None
    assert both.planners["none"].foresight.by_seed == pytest.approx({0: 1.0, 1: 1.0, 2: 1.0})


def test_planners_tell_their_size_and_the_levels_of_the_training(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    synthetic_run.confine(root, 10, 1.5)
    lifts = {"mcts-4": 2.0, "cem": 0.5, "mcts": 3.0, "mppi-9@simulator": 2.5}
    synthetic_run.replan(root, lifts)
    path = root / "study.toml"
    path.write_text(f"{path.read_text()}\n[planning]\nsamples = 77\n")
    both = study(root).tasks[PUSH].arms["both"]
    found = {name: (p.kind, p.size, p.model) for name, p in both.planners.items()}
    assert found == {
        "none": ("none", 0, None),
        "mcts-4": ("mcts", 4, None),
        "cem": ("cem", 77, None),
        "mcts": ("mcts", None, None),  # of whose size the run says nothing
        "mppi-9@simulator": ("mppi", 9, "simulator"),
    }
    assert both.planners["none"].seen == both.seen
    result = both.planners["mcts-4"]
    assert result.seen is not None
    assert both.seen is not None
    assert both.iqm is not None
    assert result.iqm == pytest.approx(2 * both.iqm)
    assert result.seen.iqm == pytest.approx(2 * both.seen.iqm) == pytest.approx(3 * both.iqm)
    assert result.seen.interval == pytest.approx([2 * x for x in both.seen.interval or ()])
    assert result.seen.by_seed == pytest.approx({s: 2 * x for s, x in both.seen.by_seed.items()})
    assert result.episodes == 3 * 32  # on unseen levels


def test_a_planner_that_has_not_acted_yet_is_missing(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    synthetic_run.replan(root, {"mppi": 1.5})
    job = root / "evaluate" / synthetic_run.slug(PUSH) / "both" / "seed-1" / "mppi"
    (job / "episodes.jsonl").unlink()
    (job / "done.json").unlink()
    (job / "error.txt").write_text("Traceback\nValueError: no plan\n")
    found = study(root)
    assert f"evaluation of both on {PUSH} with planner mppi: seed 1" in found.missing
    assert f"evaluate of both on {PUSH}, seed 1, failed: ValueError: no plan" in found.missing
    assert set(found.tasks[PUSH].arms["both"].planners["mppi"].by_seed) == {0, 2}


def test_planners_are_crossed_with_variants(tmp_path: Path) -> None:
    """Over all tasks by seeds drawn within each, 0 the random policy and 1 the oracle."""
    root = synthetic_run.write_variants(tmp_path, {"plain": 1.0, "other": 2.0}, videos=False)
    for name, lift in {"plain": 0.5, "other": 1.5}.items():
        synthetic_run.replan(root / name, {"mppi": lift})
    found = results.collect(root)
    assert isinstance(found, VariantResults)
    cells = {(c.task, c.arm, c.variant, c.planner): c for c in found.planning}
    assert len(cells) == len(found.planning) == 3 * 4 * 2 * 2  # both tasks and all, arms
    assert {cell.world_model for cell in found.planning} == {"rssm"}
    task = found.variants["other"].tasks[PUSH]
    mppi = task.arms["both"].planners["mppi"]
    cell = cells[PUSH, "both", "other", "mppi"]
    assert (cell.iqm, cell.interval, cell.runs) == (mppi.iqm, mppi.interval, 3)
    strata = []
    for result in found.variants["other"].tasks.values():
        low, high = result.references["random"], result.references["oracle"]
        values = result.arms["both"].planners["mppi"].by_seed.values()
        strata.append((np.array(list(values)) - low) / (high - low))
    expected = statistics.estimate(strata)
    cell = cells[None, "both", "other", "mppi"]
    assert cell.runs == 6
    assert cell.iqm == pytest.approx(expected.value)
    assert cell.interval == pytest.approx(expected.interval)


def collected(tmp_path: Path, lifts: dict[str, float]) -> VariantResults:
    """Results of variants of which each is collected by whom its name ends in."""
    root = synthetic_run.write_variants(tmp_path, lifts, videos=False)
    for name in lifts:
        path = root / name / "study.toml"
        who = name.rpartition("-")[2]
        path.write_text(f'{path.read_text()}\n[planning]\ncollect = "{who}"\n')
    found = results.collect(root)
    assert isinstance(found, VariantResults)
    return found


def test_who_collects_is_crossed_with_families_of_variants(tmp_path: Path) -> None:
    """By their names' ends; over all tasks with 0 the random policy and 1 the oracle."""
    names = {"a-none": 1.0, "a-cem": 2.0, "b-none": 0.5, "b-cem": 3.0}
    found = collected(tmp_path, names)
    assert found.planning == []
    assert found.variants["b-cem"].collect == "cem"
    cells = {(c.task, c.arm, c.variant, c.planner): c for c in found.collecting}
    assert len(cells) == len(found.collecting) == 3 * 4 * 2 * 2  # both tasks and all, arms
    assert list(dict.fromkeys(c.planner for c in found.collecting)) == ["none", "cem"]
    arm = found.variants["b-cem"].tasks[PUSH].arms["both"]
    cell = cells[PUSH, "both", "b", "cem"]
    assert (cell.iqm, cell.interval, cell.runs) == (arm.iqm, arm.interval, 3)
    strata = []
    for result in found.variants["a-none"].tasks.values():
        low, high = result.references["random"], result.references["oracle"]
        values = [row.final or 0.0 for row in result.arms["both"].seeds]
        strata.append((np.array(values) - low) / (high - low))
    expected = statistics.estimate(strata)
    cell = cells[None, "both", "a", "none"]
    assert (cell.iqm, cell.runs) == (pytest.approx(expected.value), 6)
    assert cell.interval == pytest.approx(expected.interval)


def test_who_collects_is_not_crossed_without_a_second_one(tmp_path: Path) -> None:
    assert collected(tmp_path, {"a-none": 1.0, "b-none": 2.0}).collecting == []


def test_there_is_no_matrix_without_a_second_planner(tmp_path: Path) -> None:
    root = synthetic_run.write_variants(
        tmp_path, {"plain": 1.0, "other": 1.0}, tasks=DESK[:1], seeds=1, videos=False
    )
    found = results.collect(root)
    assert isinstance(found, VariantResults)
    assert found.planning == []
