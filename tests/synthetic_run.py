"""Writes run folders such as the stages leave behind, with made-up, deterministic numbers."""

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from tasks.crafter import ACHIEVEMENTS

DESK = ("desk/push_left:sparse", "desk/open_drawer:sparse")
ARMS: dict[str, list[str]] = {
    "scratch": [],
    "model": ["world_model"],
    "policy": ["curious_policy"],
    "both": ["world_model", "curious_policy"],
}
# where each arm ends on a task whose returns reach about 60, and how early it rises (0 to 1)
LEVELS = {
    "scratch": (2.0, 0.9), "encoder": (6.0, 0.8), "model": (33.0, 0.45), "policy": (21.0, 0.6),
    "both": (46.0, 0.25), "policy-prior": (15.0, 0.7), "scratch-equal-total": (8.0, 0.85),
}  # fmt: skip
PARTS = ("update", "policy", "simulator", "replay", "checkpoint", "evaluation", "compile", "other")
VIDEO_LINE = "no video: no headless GL was found; install libegl1 (apt-get install -y libegl1)"


def write(
    root: Path,
    *,
    tasks: Sequence[str] = DESK,
    arms: Mapping[str, list[str]] = ARMS,
    seeds: int = 3,
    steps: int = 10_000,
    lift: float = 1.0,
    videos: bool = True,
    image_open_loop: bool = False,
) -> Path:
    """A complete run under `root`; `lift` scales what the carried parts bring."""
    root.mkdir(parents=True, exist_ok=True)
    write_study(root, tasks=tasks, arms=arms, seeds=seeds, steps=steps)
    for seed in range(seeds):
        write_exploration(root, seed, videos=videos, images=image_open_loop)
    write_exploration(root, None, videos=False, images=False)
    for number, task in enumerate(tasks):
        for arm in arms:
            for seed in range(seeds):
                write_arm(root, task, number, arm, seed, steps, lift, videos)
        for reference, value in {"random": 1.0, "oracle": 60.0}.items():
            if reference == "oracle" and task.startswith("crafter"):
                continue
            folder = root / "evaluate" / slug(task) / reference
            rows = episodes(task, reference, 0, value, reference)
            write_job(folder, "evaluate", task, reference, 0)
            write_lines(folder / "episodes.jsonl", rows)
            write_video(folder, videos)
    return root


def write_variants(root: Path, lifts: Mapping[str, float], **options: Any) -> Path:
    """A study with variants: one tree each, and their order in the study above them."""
    root.mkdir(parents=True, exist_ok=True)
    listed = "".join(f'[[variants]]\nname = "{name}"\n\n' for name in lifts)
    (root / "study.toml").write_text(f'name = "synthetic"\n\n{listed}')
    for name, lift in lifts.items():
        write(root / name, lift=lift, **options)
    return root


def confine(root: Path, levels: int, lift: float) -> None:
    """Say of a run that its training was confined to so many levels, on which it is better."""
    study = root / "study.toml"
    study.write_text(study.read_text().replace("[tasks]\n", f"[tasks]\nlevels = {levels}\n"))
    for path in root.glob("evaluate/*/*/seed-*/episodes.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        more = [
            row | {"checkpoint": "final-seen", "value": lift * row["value"]}
            for row in rows
            if row["checkpoint"] == "final"
        ]
        write_lines(path, [*rows, *more])


def replan(root: Path, lifts: Mapping[str, float]) -> None:
    """Say of a run that its final agents were evaluated with other planners, too, each of which is
    so much better; who acts expects 1 more than comes, and twice its lift more where it plans. On
    the levels of the training, too, where the run was confined to some before."""
    study = root / "study.toml"
    study.write_text(f"{study.read_text()}\n[evaluate]\nplanners = {json.dumps(list(lifts))}\n")
    for path in root.glob("evaluate/*/*/seed-*/episodes.jsonl"):
        told = []
        for row in map(json.loads, path.read_text().splitlines()):
            came = row["return"] / 2
            told.append(row | {"discounted_return": came, "expected_return": came + 1})
        write_lines(path, told)
        job = json.loads((path.parent / "job.json").read_text())
        for planner, lift in lifts.items():
            labels = {"final": "final-planned", "final-seen": "final-planned-seen"}
            more = [
                row
                | {"checkpoint": labels[row["checkpoint"]], "planner": planner}
                | {"expected_return": row["discounted_return"] + 2 * lift}
                | {"value": lift * row["value"]}
                for row in told
                if row["checkpoint"] in labels
            ]
            write_job(path.parent / planner, "evaluate", job["task"], job["arm"], job["seed"])
            write_lines(path.parent / planner / "episodes.jsonl", more)


def write_study(
    root: Path, *, tasks: Sequence[str], arms: Mapping[str, list[str]], seeds: int, steps: int
) -> None:
    """`study.toml` and `run.json`."""
    table = "\n".join(f"{json.dumps(name)} = {json.dumps(carry)}" for name, carry in arms.items())
    (root / "study.toml").write_text(
        f'name = "synthetic"\nseeds = {seeds}\n\n[tasks]\nexplore = "desk/free"\n'
        f'transfer = {json.dumps(list(tasks))}\nobserve = ["state"]\n\n'
        f'[agent]\nworld_model = "rssm"\ncuriosity = "disagreement"\n\n[explore]\nsteps = 16000\n\n'
        f"[transfer]\nsteps = {steps}\n\n[transfer.arms]\n{table}\n"
    )
    run = {
        "craik": "0.1.0",
        "versions": {"jax": "0.10.0", "mujoco": "3.16.0", "numpy": "2.3.1"},
        "device": "cpu",
        "devices": ["TFRT_CPU_0"],
        "precision": "float32",
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "gl": "egl",
        "render": "fast",
        "started": "2030-01-01T00:00:00Z",
        "variants_of_tasks": {task: {"rewards": "sparse"} for task in tasks},
    }
    (root / "run.json").write_text(json.dumps(run))


def write_exploration(root: Path, seed: int | None, *, videos: bool, images: bool) -> None:
    """`explore/seed-S`, or `explore/random` for `seed=None`."""
    folder = root / "explore" / ("random" if seed is None else f"seed-{seed}")
    write_job(folder, "explore", "desk/free", "random" if seed is None else "", seed or 0)
    generator = np.random.default_rng(100 + (0 if seed is None else seed))
    learnt = seed is not None
    rows: list[dict[str, Any]] = []
    for steps in range(0, 16_001, 1000):
        part = steps / 16_000
        reach = 0.75 if learnt else 0.35
        noise = generator.normal(0, 0.015)
        rows.append({
            "kind": "health", "env_steps": steps,
            "coverage": float(np.clip(reach * (1 - np.exp(-3 * part)) + noise, 0, 1)),
            "moved": {
                "puck": (0.85 if learnt else 0.12) * part,
                "drawer": (0.55 if learnt else 0.03) * part,
                "button": (0.4 if learnt else 0.05) * part,
            },
            "bonus": float(1.2 * np.exp(-2 * part) + 0.3 + noise) if learnt else None,
            "model_error": float(0.9 * np.exp(-4 * part) + 0.12 + noise) if learnt else None,
            "model_error_baseline": 0.8 if learnt else None,
        })  # fmt: skip
        rows.append({
            "kind": "episode", "env_steps": steps, "updates": steps // 4 if learnt else 0,
            "return": 0.0, "success": 0, "length": 100, "environment": 0, "random": not learnt,
        })  # fmt: skip
    rows.append(time_row(16_000, 90.0))
    write_lines(folder / "metrics.jsonl", rows)
    if learnt:
        write_open_loop(folder / "open_loop.npz", generator, images)
        (folder / "videos").mkdir(exist_ok=True)
        if videos:
            (folder / "videos" / "explore.mp4").write_bytes(film(seed or 0))
        else:
            (folder / "videos" / "MISSING.txt").write_text(VIDEO_LINE + "\n")


def write_arm(
    root: Path, task: str, number: int, arm: str, seed: int, steps: int, lift: float, videos: bool
) -> None:
    """`transfer/TASK/ARM/seed-S` and `evaluate/TASK/ARM/seed-S`."""
    level, rise = LEVELS.get(arm, (10.0, 0.5))
    scale = (lift if arm != "scratch" else 1.0) * (1.0, 0.7, 0.5)[number % 3]
    generator = np.random.default_rng([seed, number, len(arm)])
    final = max(0.0, level * scale * (1 + generator.normal(0, 0.18)))
    rows: list[dict[str, Any]] = []
    for step in np.linspace(0, steps, 11).astype(int).tolist():
        height = final / (1 + np.exp(-14 * (step / steps - rise)))
        value = float(max(0.0, height + generator.normal(0, 0.02 * final)))
        rows.append({
            "kind": "evaluation", "env_steps": step, "updates": step // 4, "episodes": 16,
            "return": value, "success": min(1.0, value / 60), "score": None,
            "value": value / 4 if task.startswith("crafter") else value,
        })  # fmt: skip
    rows.append(time_row(steps, 60.0))
    transfer = root / "transfer" / slug(task) / arm / f"seed-{seed}"
    write_job(transfer, "transfer", task, arm, seed)
    write_lines(transfer / "metrics.jsonl", rows)
    evaluate = root / "evaluate" / slug(task) / arm / f"seed-{seed}"
    write_job(evaluate, "evaluate", task, arm, seed)
    write_lines(
        evaluate / "episodes.jsonl",
        episodes(task, "start", seed, rows[0]["value"], "none")
        + episodes(task, "final", seed, final, "none"),
    )
    write_video(evaluate, videos)


def episodes(
    task: str, checkpoint: str, seed: int, level: float, planner: str
) -> list[dict[str, Any]]:
    """Thirty-two episodes around `level` (of 60)."""
    generator = np.random.default_rng([seed, len(checkpoint), round(100 * level)])
    rows = []
    for number in range(32):
        value = max(0.0, level + float(generator.normal(0, 0.05 * level)))
        row: dict[str, Any] = {
            "seed": seed, "checkpoint": checkpoint, "episode_seed": 10_000 + number,
            "return": value, "success": int(generator.random() < level / 60), "length": 100,
            "planner": planner, "value": value,
        }  # fmt: skip
        if task.startswith("crafter"):
            chances = (0.2 + level / 60) * np.linspace(1, 0, len(ACHIEVEMENTS)) ** 2
            counts = generator.random(len(ACHIEVEMENTS)) < chances
            row["achievements"] = dict(zip(ACHIEVEMENTS, counts.astype(int).tolist()))  # noqa: B905
            row["value"] = None
        rows.append(row)
    return rows


def write_open_loop(path: Path, generator: np.random.Generator, images: bool) -> None:
    """A truth of six numbers, and a prediction that drifts away from it after the context."""
    steps, context = 60, 15
    phase = generator.uniform(0, 6, size=6)
    truth = np.sin(np.linspace(0, 9, steps)[:, None] * np.linspace(0.4, 1.2, 6) + phase)
    drift = np.cumsum(generator.normal(0, 0.06, size=truth.shape), axis=0)
    drift -= drift[context]
    prediction = truth + np.where(np.arange(steps)[:, None] < context, 0.01, drift)
    arrays: dict[str, Any] = {"truth": truth, "prediction": prediction, "context": context}
    if images:
        grid = np.arange(64)
        frames = [np.exp(-(((grid - 10 - 0.7 * t) / 9) ** 2)) for t in range(steps)]
        image = np.stack([(200 * np.outer(f, f[::-1])).astype(np.uint8) for f in frames])
        arrays["truth_image"] = np.repeat(image[..., None], 3, axis=-1)
        arrays["prediction_image"] = np.roll(arrays["truth_image"], 3, axis=2)
    np.savez_compressed(path, **arrays)


def time_row(env_steps: int, seconds: float) -> dict[str, Any]:
    shares = (0.55, 0.12, 0.08, 0.05, 0.03, 0.1, 0.05, 0.02)
    parts = {part: seconds * share for part, share in zip(PARTS, shares, strict=True)}
    return {"kind": "time", "env_steps": env_steps, "seconds": seconds, **parts}


def write_job(folder: Path, stage: str, task: str, arm: str, seed: int) -> None:
    """`job.json` and `done.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {"stage": stage, "task": task, "arm": arm, "seed": seed, "digest": "0" * 12}
    (folder / "job.json").write_text(json.dumps({**job, "settings": {}}))
    done = {"digest": "0" * 12, "finished": 0, "seconds": 60.0, "version": "0.1.0"}
    (folder / "done.json").write_text(json.dumps(done))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_video(folder: Path, videos: bool) -> None:
    if videos:
        (folder / "video.mp4").write_bytes(film(len(folder.parts[-2])))
    else:
        (folder / "video.missing.txt").write_text(VIDEO_LINE + "\n")


@functools.cache
def film(number: int) -> bytes:
    """A one-second film of a square that moves."""
    frames = []
    for t in range(10):
        frame = np.full((96, 96, 3), 225, np.uint8)
        frame[60:] = (188, 170, 150)
        frame[44:64, 6 + 6 * t : 26 + 6 * t] = (40 + 30 * (number % 6), 110, 190)
        frames.append(frame)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        imageio.mimwrite(path, frames, fps=10, macro_block_size=16)
        return path.read_bytes()


def slug(name: str) -> str:
    return name.replace("/", "-").replace(":", "-")
