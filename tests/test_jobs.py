"""The graph of jobs and its states, on stages that do no learning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import backends, work
from pipeline.errors import StudyError
from pipeline.jobs import Exploration, Graph, build
from pipeline.run import check_specs, run
from pipeline.run_folder import RunFolder
from pipeline.settings import load_study
from pipeline.states import (
    changed,
    due,
    missing_inputs,
    read_json,
    refuse_changes,
    state,
    write_json,
)
from pipeline.status import statuses
from tasks import registry
from tests.small_study import FAKES, TASK, graph, study

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("undisturbed")


def go(out: Path, *overrides: str, jobs: int = 1, **options: Any) -> Any:
    return run(study(*overrides), out, jobs=jobs, modules=FAKES, report=False, **options)


def runs(out: Path, id: str) -> int:
    return len((out / id / "runs.txt").read_text().splitlines())


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    path = tmp_path / "variants.toml"
    path.write_text(
        'name = "v"\n[tasks]\nexplore = "desk/free"\ntransfer = ["desk/push_left:sparse"]\n'
        '[[variants]]\nname = "base"\n'
        '[[variants]]\nname = "longer"\nset = { "transfer.steps" = 300 }\n'
        '[[variants]]\nname = "rnd"\nset = { "agent.curiosity" = "rnd" }\n'
    )
    return path


# the graph


def test_a_study_becomes_these_jobs() -> None:
    found = graph(oracles=["desk/push_left:sparse"])
    assert set(found.jobs) == {
        "explore/seed-0",
        "explore/seed-1",
        "explore/random",
        *(
            f"{stage}/{TASK}/{arm}/seed-{seed}"
            for stage in ("transfer", "evaluate")
            for arm in ("scratch", "model")
            for seed in (0, 1)
        ),
        f"evaluate/{TASK}/random",
        f"evaluate/{TASK}/oracle",
    }
    assert found.jobs[f"transfer/{TASK}/model/seed-1"].inputs == ("explore/seed-1",)
    assert found.jobs[f"transfer/{TASK}/scratch/seed-1"].inputs == ()
    evaluation = found.jobs[f"evaluate/{TASK}/model/seed-1"]
    assert evaluation.inputs == (f"transfer/{TASK}/model/seed-1",)


def test_identities_differ_between_jobs_and_not_between_calls() -> None:
    digests = [job.digest for job in graph().jobs.values()]
    assert len(set(digests)) == len(digests)
    assert digests == [job.digest for job in graph().jobs.values()]


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("training.batch_size=5", {"explore", "transfer", "evaluate"}),
        ("transfer.steps=7_700", {"transfer", "evaluate"}),
        ("training.workers=2", set()),
        ("tasks.video_size=64", set()),
        ("name=other", set()),
        ("seeds=3", set()),
        ('transfer.arms.both=["world_model", "policy"]', set()),
        ("curiosity.transfer_scale=0.2", {"transfer", "evaluate"}),
        ("behaviour.rewarding_starts=0.2", {"transfer", "evaluate"}),
        ("planning.evaluate=mppi", {"evaluate"}),
        ("planning.collect=mppi", {"explore", "transfer", "evaluate"}),
        ("planning.horizon=4", set()),  # nobody plans
        ("replay.importance=0.5", set()),  # all sequences are drawn alike
        ("planning.search.temperature_end=0.2", set()),  # nobody searches
        ('tasks.transfer=["desk/push_left:sparse", "desk/reach"]', set()),
    ],
)
def test_a_setting_matters_to_these_stages(override: str, stages: set[str]) -> None:
    before, after = graph().jobs, graph(override).jobs
    changed = {job.stage for id, job in before.items() if after[id].digest != job.digest}
    assert changed == stages


def test_how_to_learn_from_plans_matters_where_plans_are_learnt_from() -> None:
    more = "planning.learn_share=0.5"

    def changed_by(*planning: str) -> set[str]:
        before, after = graph(*planning).jobs, graph(*planning, more).jobs
        return {job.stage for id, job in before.items() if after[id].digest != job.digest}

    assert changed_by("planning.collect=mppi") == set()
    assert changed_by("planning.learn=mppi") == {"explore", "transfer", "evaluate"}


def test_how_to_plan_matters_where_somebody_plans() -> None:
    before = graph("planning.evaluate=cem").jobs
    after = graph("planning.evaluate=cem", "planning.horizon=2").jobs
    assert {job.stage for id, job in before.items() if after[id].digest != job.digest} == {
        "evaluate"
    }


def test_priorities_history_and_a_falling_temperature_matter_where_they_are_at_work() -> None:
    family = ('agent.world_model="muzero"', "training.batch_length=12")

    def moved(before: tuple[str, ...], *after: str) -> set[str]:
        old, new = graph(*family, *before).jobs, graph(*family, *before, *after).jobs
        return {job.stage for id, job in old.items() if new[id].digest != job.digest}

    plain = graph(*family).jobs.values()  # as they were before there was a choice
    known = {key for job in plain for key in job.settings}
    assert not known & {"replay.priority", "replay.importance", "muzero.history"}
    assert not any("temperature_" in key for key in known)
    every = {"explore", "transfer", "evaluate"}
    assert moved((), "replay.priority=1.0") == every
    assert moved((), "muzero.history=2") == every
    assert moved(("muzero.history=2",), "muzero.history=1") == every
    assert moved(("replay.priority=1.0",), "replay.importance=0.5") == every
    falling = "planning.search.temperature_end=0.2"
    assert moved((), falling) == set()
    assert moved(("planning.collect=mcts",), falling) == every
    assert moved(("planning.collect=mcts",), "planning.search.temperature_share=0.5") == set()
    assert moved(("planning.evaluate=mcts",), falling) == set()


def test_planners_beside_the_main_one_are_jobs_of_their_own() -> None:
    """They change no other job, so that they may be added to a finished study."""
    before, after = graph().jobs, graph('evaluate.planners=["none", "cem", "mppi"]').jobs
    assert {id: job.digest for id, job in before.items()} == {id: after[id].digest for id in before}
    added = {id: job for id, job in after.items() if id not in before}
    assert set(added) == {
        f"evaluate/{TASK}/{arm}/seed-{seed}/{planner}"
        for arm in ("scratch", "model")
        for seed in (0, 1)
        for planner in ("cem", "mppi")  # the policy acts in the main one
    }
    job = added[f"evaluate/{TASK}/model/seed-1/mppi"]
    assert (job.planner, job.arm, job.seed) == ("mppi", "model", 1)
    assert job.inputs == (f"transfer/{TASK}/model/seed-1",)
    assert job.settings["planning.evaluate"] == "mppi"
    # how to plan matters to them, and to nobody else
    other = graph('evaluate.planners=["cem", "mppi"]', "planning.horizon=2").jobs
    assert {id for id in other if other[id].digest != after[id].digest} == set(added)


def test_a_planner_named_with_its_size_is_what_its_size_makes_it() -> None:
    names = 'evaluate.planners=["mcts", "mcts-4", "cem-20"]'
    before = graph(names, "planning.elites=4").jobs
    at = f"evaluate/{TASK}/scratch/seed-0/"
    assert before[f"{at}mcts-4"].planner == "mcts-4"
    assert before[f"{at}mcts-4"].settings["planning.evaluate"] == "mcts"
    assert before[f"{at}mcts-4"].settings["planning.search.simulations"] == 4
    assert before[f"{at}cem-20"].settings["planning.samples"] == 20
    sizes = ("planning.search.simulations=9", "planning.samples=99")
    after = graph(names, "planning.elites=4", *sizes).jobs
    changed = {id for id, job in before.items() if after[id].digest != job.digest}
    assert {id.split("/")[-1] for id in changed} == {"mcts"}


def test_evaluation_settings_matter_to_evaluation_not_to_exploration() -> None:
    before, after = graph().jobs, graph("evaluate.episodes=5").jobs
    assert before["explore/seed-0"].digest == after["explore/seed-0"].digest
    id = f"evaluate/{TASK}/random"
    assert before[id].digest != after[id].digest


def test_an_arm_is_what_it_carries_not_how_that_is_written() -> None:
    row = 'transfer.arms={model=["decoder", "dynamics", "encoder"], scratch=[]}'
    id = f"transfer/{TASK}/model/seed-0"
    assert graph().jobs[id].digest == graph(row).jobs[id].digest


def test_equal_total_adds_the_exploration_steps() -> None:
    jobs = graph("transfer.arms={equal={equal_total=true}}").jobs
    study = load_study("desk", "smoke").first
    expected = study.explore.steps + study.transfer.steps
    assert jobs[f"transfer/{TASK}/equal/seed-0"].env_steps == expected


def test_no_exploration_leaves_its_jobs_out() -> None:
    jobs = graph("explore.steps=0", "transfer.arms={scratch=[]}").jobs
    assert not any(job.stage == "explore" for job in jobs.values())


def test_an_exploration_from_elsewhere_replaces_all() -> None:
    outside = Exploration(Path("/elsewhere"), "abc")
    jobs = graph(exploration=outside).jobs
    assert not any(job.stage == "explore" for job in jobs.values())
    carried = jobs[f"transfer/{TASK}/model/seed-0"]
    assert (carried.inputs, carried.exploration) == ((), Path("/elsewhere"))
    assert carried.digest != graph().jobs[carried.id].digest
    fresh = jobs[f"transfer/{TASK}/scratch/seed-0"]
    assert fresh.digest == graph().jobs[fresh.id].digest


def test_variants_share_equal_explorations(variants: Path) -> None:
    found = build(load_study(variants, "smoke").variants)
    explored = {id for id, job in found.jobs.items() if job.stage == "explore" and not job.random}
    assert explored == {"base/explore/seed-0", "rnd/explore/seed-0"}
    assert found.links["longer/explore/seed-0"] == "base/explore/seed-0"
    job = found.jobs[f"longer/transfer/{TASK}/model/seed-0"]
    assert job.inputs == ("base/explore/seed-0",)


# states


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = go(tmp_path)
    assert first.ran == 13
    assert first.outcome == backends.Outcome()
    again = go(tmp_path)
    assert (again.ran, again.finished_before) == (0, 13)


def test_what_is_added_is_due_and_the_rest_is_kept(tmp_path: Path) -> None:
    go(tmp_path)
    added = go(tmp_path, "seeds=3", 'transfer.arms.both=["policy"]')
    # seed 2: explore, 3 arms twice; seeds 0 and 1: the new arm twice
    assert added.ran == 1 + 6 + 4
    assert runs(tmp_path, "explore/seed-0") == 1


def test_a_changed_setting_is_refused_with_the_difference(tmp_path: Path) -> None:
    go(tmp_path)
    with pytest.raises(StudyError) as caught:
        go(tmp_path, "training.batch_size=3")
    message = str(caught.value)
    assert "training.batch_size was 4, now 3" in message
    assert "is finished" in message
    assert len(message.splitlines()) == 1
    assert load_study(tmp_path).first.training.batch_size == 4


def test_a_started_job_is_refused_too(tmp_path: Path) -> None:
    job = graph().jobs["explore/seed-0"]
    work.write_json(tmp_path / job.id / "job.json", work.describe(job))
    assert state(tmp_path / job.id) == "interrupted"
    with pytest.raises(StudyError, match="was started with other settings"):
        refuse_changes(tmp_path, graph("training.batch_size=3"))
    refuse_changes(tmp_path, graph())


def test_planners_added_to_a_finished_study_are_all_that_is_due(tmp_path: Path) -> None:
    go(tmp_path)
    ran = go(tmp_path, 'evaluate.planners=["mppi"]')
    assert ran.ran == 4
    assert runs(tmp_path, f"transfer/{TASK}/model/seed-0") == 1
    assert runs(tmp_path, f"evaluate/{TASK}/model/seed-0") == 1
    out = read_json(tmp_path / f"evaluate/{TASK}/model/seed-0/mppi/out.json")
    assert out is not None
    assert "planner='mppi'" in out["inputs"]
    assert go(tmp_path).ran == 0  # nor is anything lost where they are left out again


def test_a_broken_record_means_that_the_job_is_due(tmp_path: Path) -> None:
    go(tmp_path)
    (tmp_path / "explore/seed-0/done.json").write_text('{"digest": ')
    assert [job.id for job in due(tmp_path, graph(oracles=["desk/push_left:sparse"]))] == [
        "explore/seed-0"
    ]
    assert go(tmp_path).ran == 1
    assert runs(tmp_path, "explore/seed-0") == 2


def test_inputs_that_differ_are_a_change(tmp_path: Path) -> None:
    go(tmp_path)
    outside = graph(exploration=Exploration(Path("/x"), "abc"))
    difference = changed(tmp_path, outside.jobs[f"transfer/{TASK}/model/seed-0"])
    assert difference is not None
    assert difference.differences == ("its inputs differ",)


def test_each_stage_alone_gives_what_run_gives(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    go(whole)
    for stage in ("explore", "transfer", "evaluate"):
        go(parts, stages=(stage,))
    files = sorted(p.relative_to(whole) for p in whole.rglob("out.json"))
    assert len(files) == 13
    for file in files:
        expected = (whole / file).read_text().replace(str(whole), str(parts))
        assert (parts / file).read_text() == expected
    digests = [read_json(root / "explore/seed-0/done.json")["digest"] for root in (whole, parts)]  # type: ignore[index]
    assert digests[0] == digests[1]


def test_a_stage_without_its_inputs_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"explore/seed-0 is not finished.*craik explore"):
        go(tmp_path, stages=("transfer",))
    assert missing_inputs(tmp_path, Graph(), list(graph().jobs.values()))


def test_a_run_folder_may_be_moved(tmp_path: Path, variants: Path) -> None:
    loaded = load_study(variants, "smoke")
    run(loaded, tmp_path / "old", jobs=1, modules=FAKES, report=False)
    shared = tmp_path / "old/longer/explore/seed-0"
    assert shared.is_symlink()
    assert not os.path.isabs(os.readlink(shared))
    shutil.move(tmp_path / "old", tmp_path / "new")
    again = run(loaded, tmp_path / "new", jobs=1, modules=FAKES, report=False)
    assert again.ran == 0
    rows = statuses(tmp_path / "new")
    assert {row.state for row in rows} == {"finished"}
    assert {row.job.split("/")[0] for row in rows} == {"base", "longer", "rnd"}


def test_a_variant_put_first_does_not_repeat_its_exploration(
    tmp_path: Path, variants: Path
) -> None:
    run(load_study(variants, "smoke"), tmp_path / "run", jobs=1, modules=FAKES, report=False)
    text = variants.read_text()
    head, rest = text.split('[[variants]]\nname = "base"', 1)
    variants.write_text(f'{head}[[variants]]\nname = "zero"\n[[variants]]\nname = "base"{rest}')
    loaded = load_study(variants, "smoke")
    ran = run(loaded, tmp_path / "run", jobs=1, modules=FAKES, report=False)
    assert not (tmp_path / "run/zero/explore/seed-0/../../../zero/explore/runs.txt").exists()
    assert (tmp_path / "run/zero/explore/seed-0").is_symlink()
    assert ran.outcome == backends.Outcome()
    assert runs(tmp_path / "run", "base/explore/seed-0") == 1


def test_a_second_process_on_one_folder_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(StudyError, match=f"pid {other.pid}"):
                go(tmp_path)
            assert RunFolder(tmp_path).is_held()
        finally:
            other.kill()
    assert not RunFolder(tmp_path).is_held()


def test_the_run_records_what_it_ran_on(tmp_path: Path) -> None:
    go(tmp_path)
    record = RunFolder(tmp_path).record
    assert record["versions"]["jax"]
    assert record["precision"] == "float32"
    assert "desk/push_left:sparse" in record["variants_of_tasks"]
    assert load_study(tmp_path).first == study().first


def test_arms_that_carry_need_tasks_that_look_alike() -> None:
    loaded = study('tasks.transfer=["desk/reach"]').first
    desk = registry.spec("desk/free", loaded.tasks)
    other = registry.spec("gymnasium:Pendulum-v1", loaded.tasks)
    with pytest.raises(StudyError, match="observations differ"):
        check_specs(loaded, {"desk/free": desk, "desk/reach": other}, outside=False)
    check_specs(loaded, {"desk/free": desk, "desk/reach": desk}, outside=False)


def test_a_file_that_is_not_as_its_job_left_it_is_named(tmp_path: Path) -> None:
    go(tmp_path / "run")
    job = tmp_path / "run" / "explore" / "seed-0"
    left = (job / "metrics.jsonl").read_bytes()
    for change in (
        lambda: (job / "metrics.jsonl").write_bytes(left[:-1]),
        (job / "metrics.jsonl").unlink,
    ):
        change()
        with pytest.raises(StudyError, match=r"explore/seed-0/metrics.jsonl: not as its job left"):
            go(tmp_path / "run")
    shutil.rmtree(job)
    assert go(tmp_path / "run").ran == 1


def test_a_task_file_is_kept_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    one, two = tmp_path / "a" / "cell.py", tmp_path / "b" / "cell.py"
    for file, text in ((one, "1"), (two, "2")):
        file.parent.mkdir()
        file.write_text(text)
    write_json(folder.root / "run.json", {"craik": "1"})
    assert folder.keep_sources({"a/cell.py:make": one, "b/cell.py:make": two}) == []
    one.write_text("3")
    assert folder.keep_sources({"a/cell.py:make": one, "b/cell.py:make": two}) == ["a/cell.py:make"]
    kept = sorted(path.read_text() for path in (folder.root / "tasks").iterdir())
    assert kept == ["1", "2", "3"]
    assert (folder.root / "tasks" / "cell.py").read_text() == "1"
