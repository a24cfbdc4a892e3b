"""Throw damaged studies, checkpoints and runs at `craik`, and look for tracebacks.

    .venv/bin/python benchmarks/fuzz.py --minutes 10
    .venv/bin/python benchmarks/fuzz.py --seed 7 --cases 200 --kind study

Each case damages one thing and calls a command on it in this process, as a user would:

    study        text or structure of a study file      craik plan
    checkpoint   files of a checkpoint                  craik components, craik transfer --from
    run          files of a run's folder                craik status, craik report

A command may succeed, or end in one line and exit code 1 or 2. Anything else is a finding: it is
printed with the seed of its case, and `--seed SEED --cases 1` does that case again (with the same
--kind). The exit code is 1 if there are findings.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import toml
from pipeline.cli import main as craik
from pipeline.jobs import build
from pipeline.run import prepare
from pipeline.run_folder import RunFolder
from pipeline.settings import load_study, ready_made
from pipeline.states import write_json
from pipeline.work import describe

KINDS = ("study", "checkpoint", "run")
_WEIRD: tuple[Any, ...] = (
    *(-1, 0, 1, 7, 2**31, 2**63, 10**30, -0.5, 0.0, 1e308, float("inf"), float("nan")),
    *(True, "", "none", "../x", "a b", "é\n", "[x]", "desk/free", "x" * 300),
    *([], [[]], [1, "a"], ["policy"], {}, {"a": 1}, {"carry": []}, {"carry": [3]}),
)


@dataclass(frozen=True)
class Finding:
    """A command that ended otherwise than it should."""

    seed: int
    command: tuple[str, ...]
    told: str


@dataclass(frozen=True)
class Samples:
    """What is whole, to be copied and damaged."""

    checkpoint: Path
    run: Path


def fuzz(
    samples: Samples, scratch: Path, seeds: Iterator[int], kinds: tuple[str, ...]
) -> Iterator[Finding | None]:
    """Run one case for each seed; None where all was well."""
    cases = {"study": _study, "checkpoint": _checkpoint, "run": _run}
    for seed in seeds:
        draw = random.Random(seed)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        commands = cases[draw.choice(kinds)](draw, samples, scratch)
        for command in commands:
            told = call(command)
            if told:
                yield Finding(seed, command, told)
                break
        else:
            yield None


def call(command: tuple[str, ...]) -> str:
    """Run a command in this process; what is wrong with its end, or nothing."""
    before, arguments = os.environ.copy(), sys.argv
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["craik", *command]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            craik()
    except SystemExit as end:
        code = end.code
    except BaseException:
        return traceback.format_exc()
    finally:
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(before)
    lines = [line for line in err.getvalue().splitlines() if line.strip()]
    if "Traceback" in err.getvalue():
        return err.getvalue()
    if code not in (0, None, 1, 2):
        return f"exit code {code}"
    if code == 2 and (len(lines) != 1 or not lines[0].startswith("craik: ")):
        return "not one line: " + err.getvalue()
    return ""


def make_samples(folder: Path) -> Samples:
    """A checkpoint of the desk at smoke size, and the folder of a run that has just begun."""
    import equinox as eqx
    import jax
    import numpy as np

    from stages import checkpoints
    from stages.explore import fresh_agent
    from tasks import registry

    study = load_study("desk", "smoke")
    settings = study.first
    spec = registry.spec("desk/free", settings.tasks)
    shapes = eqx.filter_eval_shape(lambda: fresh_agent(settings, spec, 0, "explore", curious=True))
    rng = np.random.default_rng(0)
    agent: Any = jax.tree.map(
        lambda x: (
            rng.normal(size=x.shape).astype(x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x
        ),
        shapes,
    )
    checkpoints.save(folder / "checkpoint", "updates-1", agent.components())
    run = RunFolder(folder / "run")
    with run.held():
        run.write_study(study)
        run.write_record(settings, {}, preset="smoke", oracles=[])
    for job in build(study.variants).jobs.values():
        at = run.root / job.id
        write_json(at / "job.json", describe(job))
        write_json(at / "done.json", {"digest": job.digest, "seconds": 3.0, "version": "x"})
        progress = {"phase": "explore", "done": 5, "total": 10, "unit": "env steps", "rate": 2.5}
        write_json(at / "progress.json", progress | {"started": 0.0, "updated": 1.0})
        name, rows = _rows_of(job.stage, job.seed)
        (at / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Samples(folder / "checkpoint", run.root)


def _rows_of(stage: str, seed: int) -> tuple[str, list[dict[str, Any]]]:
    count = {"env_steps": 10, "updates": 2}
    result = {"return": 1.0, "success": True, "length": 9, "value": 1.0, "metric": "success"}
    if stage == "evaluate":
        whom = {"seed": seed, "planner": "none", "episode_seed": "0/0"}
        return "episodes.jsonl", [
            whom | result | {"checkpoint": which} for which in ("start", "final", "random")
        ]
    health = {"coverage": 0.1, "moved": {"puck": 0.5}, "bonus": 1.0, "model_error": 0.2}
    return "metrics.jsonl", [
        {"kind": "episode", **count, **result, "random": False},
        {"kind": "evaluation", **count, **result, "episodes": 2, "score": None},
        {"kind": "health", **count, **health, "model_error_baseline": 0.5},
        {"kind": "time", **count, "update": 1.0, "total": 2.0},
    ]


def _study(draw: random.Random, samples: Samples, scratch: Path) -> list[tuple[str, ...]]:
    path = scratch / "mine.toml"
    text = draw.choice(sorted(ready_made().values())).read_text(encoding="utf-8")
    if draw.random() < 0.5:
        path.write_bytes(_damaged(draw, text.encode()))
    else:
        table = toml.read(ready_made()[draw.choice(sorted(ready_made()))])
        for _ in range(draw.randint(1, 3)):
            _change(draw, table)
        with contextlib.suppress(UnicodeEncodeError):
            path.write_text(toml.dumps(table), encoding="utf-8")
    preset = draw.choice([(), (), ("--preset", "smoke"), ("--preset", "paper")])
    return [("plan", str(path), *preset)]


def _change(draw: random.Random, table: dict[str, Any]) -> None:
    """Change, remove, rename or add one key of a table, at any depth."""
    node: Any = table
    while True:
        tables = [value for value in node.values() if isinstance(value, dict) and value]
        if not tables or draw.random() < 0.3:
            break
        node = draw.choice(tables)
    key = draw.choice(list(node)) if node else "key"
    match draw.randrange(4):
        case 0:
            node[key] = draw.choice(_WEIRD)
        case 1:
            node.pop(key, None)
        case 2:
            node[draw.choice(["", "steps", "a.b", key + "s", "é", "x" * 200])] = node.pop(key, 1)
        case 3:
            section = draw.choice(
                ["explore", "training", "model", "evaluate", "variants", "presets"]
            )
            table.setdefault(section, {})
            if isinstance(table[section], dict):
                table[section][draw.choice(["steps", "width", "a"])] = draw.choice(_WEIRD)


def _checkpoint(draw: random.Random, samples: Samples, scratch: Path) -> list[tuple[str, ...]]:
    copy = Path(shutil.copytree(samples.checkpoint, scratch / "checkpoint"))
    for _ in range(draw.randint(1, 2)):
        _damage_folder(draw, copy)
    transfer = ("transfer", "desk", "--preset", "smoke", "--out", str(scratch / "out"))
    # fits where the damage is none, so that it must not get as far as running
    misfit = ("--set", "transfer.arms={a={carry=['world_model','actor'], replay_share=0.5}}")
    return [("components", str(copy)), (*transfer, *misfit, "--from", str(copy))]


def _run(draw: random.Random, samples: Samples, scratch: Path) -> list[tuple[str, ...]]:
    copy = Path(shutil.copytree(samples.run, scratch / "run"))
    for _ in range(draw.randint(1, 3)):
        _damage_folder(draw, copy)
    return [("status", str(copy)), ("report", "--out", str(copy))]


def _damage_folder(draw: random.Random, folder: Path) -> None:
    """Flip bytes, cut off, delete, or swap files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    path = draw.choice(files)
    match draw.randrange(5):
        case 0 | 1:
            path.write_bytes(_damaged(draw, path.read_bytes()))
        case 2:
            path.unlink()
        case 3:
            other = draw.choice(files)
            one, two = path.read_bytes(), other.read_bytes()
            path.write_bytes(two)
            other.write_bytes(one)
        case 4:
            _damage_json(draw, path)


def _damage_json(draw: random.Random, path: Path) -> None:
    """Change the structure of a JSON or TOML file; cut any other off."""
    try:
        table = toml.read(path) if path.suffix == ".toml" else json.loads(path.read_text())
    except Exception:
        table = None
    if not isinstance(table, dict):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return
    _change(draw, table)
    text = toml.dumps(table) if path.suffix == ".toml" else json.dumps(table)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def _damaged(draw: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, cut out, repeated or put in."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(out) + 1)
        match draw.randrange(5):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                del out[at : at + draw.randint(1, 40)]
            case 2:
                out[at:at] = out[at : at + draw.randint(1, 40)]
            case 3:
                out[at:at] = draw.choice(
                    [b"\x00", b'"', b"[", b"=", b"\n", b"\xff", b"{", b"-", b"9"]
                )
            case _:
                del out[at:]
    return bytes(out)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz for a time or a number of cases; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default 1)")
    parser.add_argument("--cases", type=int, help="at most so many cases")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first case; the next has seed+1"
    )
    parser.add_argument("--kind", choices=KINDS, help="only this kind of damage")
    chosen = parser.parse_args(arguments)
    prepare()
    seeds = itertools.count(chosen.seed)
    limited = itertools.islice(seeds, chosen.cases) if chosen.cases else seeds
    end = time.monotonic() + 60 * chosen.minutes
    findings: list[Finding] = []
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder) / "samples")
        kinds = (chosen.kind,) if chosen.kind else KINDS
        for found in fuzz(samples, Path(folder) / "case", limited, kinds):
            number += 1
            if found is not None:
                findings.append(found)
                print(f"seed {found.seed}: craik {' '.join(found.command)}\n{found.told}")
            if time.monotonic() > end:
                break
    print(f"{number} cases, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
