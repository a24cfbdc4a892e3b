"""Presets: the same study at other sizes. A preset never changes what is compared.

`cpu` is the size of the defaults: a study in minutes on two cores. `smoke` caps every size, so
that a whole study ends in under five minutes; it never enlarges one, and what a study leaves out
(`explore.steps = 0`) stays out. `paper` takes the published sizes of DreamerV3 (arXiv 2301.04104,
table of sizes by width d): recurrent state 8d in 8 blocks, hidden layers d, 32 latents of d/16
classes, image depth d/16, batch 16 x 64, horizon 15, every posterior state an imagination start.
A study adds to any of them, or brings its own, with `[presets.NAME]`.
"""

from typing import Any

from pipeline.toml import Key, Table, flatten

DEFAULT = "cpu"
BUILT_IN = ("smoke", "cpu", "paper")
PAPER_WIDTH = 256  # DreamerV3's 12M; 384 is 25M, 512 50M, 768 100M, 1024 200M

SIZES: dict[str, tuple[str, ...]] = {
    "": ("seeds",),
    "tasks": ("image_size", "episode_length", "video_size", "transfer_limit"),
    "model": (
        "width",
        "layers",
        "recurrent",
        "blocks",
        "latents",
        "classes",
        "image_depth",
        "bins",
        "bin_reach",
    ),
    "behaviour": (
        "width",
        "layers",
        "imagination_starts",
        "imagination_horizon",
        "bins",
        "bin_reach",
    ),
    "curiosity": ("heads", "width", "layers", "learning_rate"),
    "planning": ("samples", "elites", "iterations", "horizon"),
    "planning.search": ("simulations", "actions", "considered"),
    "muzero": ("latent", "unroll", "projection"),
    "learning": ("n_steps",),
    # the learning rates that are stable belong to the width of the networks
    "training": (
        "environments",
        "workers",
        "step_timeout",
        "batch_size",
        "batch_length",
        "env_steps_per_update",
        "updates_per_call",
        "prefill_steps",
        "overlap",
        "precision",
        "model_learning_rate",
        "actor_learning_rate",
        "critic_learning_rate",
        "warmup_updates",
        "checkpoint_minutes",
    ),
    "replay": ("memory_gib", "disk_gib", "chunk"),
    "explore": ("steps",),
    "transfer": ("steps",),
    "evaluate": (
        "episodes",
        "curve_points",
        "curve_episodes",
        "environments",
        "video_episodes",
        "video_steps",
    ),
}

# Largest values under `smoke`.
SMOKE: Table = {
    "seeds": 1,
    "tasks": {"image_size": 32, "episode_length": 50, "video_size": 128, "transfer_limit": 2},
    "model": {
        "width": 32,
        "layers": 1,
        "recurrent": 32,
        "latents": 4,
        "classes": 4,
        "image_depth": 4,
    },
    "behaviour": {"width": 32, "layers": 1, "imagination_starts": 16, "imagination_horizon": 5},
    "curiosity": {"heads": 2, "width": 32},
    "planning": {
        "samples": 16,
        "elites": 4,
        "iterations": 2,
        "horizon": 3,
        "search": {"simulations": 4, "actions": 4, "considered": 4},
    },
    "muzero": {"latent": 32, "unroll": 3, "projection": 16},
    "learning": {"n_steps": 3},
    "training": {
        "environments": 4,
        "batch_size": 4,
        "batch_length": 16,
        "updates_per_call": 5,
        "prefill_steps": 200,
    },
    "explore": {"steps": 600},
    "transfer": {"steps": 400},
    "evaluate": {
        "episodes": 4,
        "curve_points": 2,
        "curve_episodes": 2,
        "environments": 4,
        "video_episodes": 1,
        "video_steps": 50,
    },
}


RELABELLED = 100  # of an arm's `relabelled_updates`, in `smoke`


def is_size(key: Key) -> bool:
    """Whether a preset may change this key."""
    match key:
        case (name,):
            return name in SIZES[""]
        case (*sections, name) if ".".join(map(str, sections)) in SIZES:
            return name in SIZES[".".join(map(str, sections))]
        case ("transfer", "arms", _, "prior_steps" | "relabelled_updates"):
            return True
    return False


def size_names() -> list[str]:
    """Every key a preset may change, dotted."""
    return [f"{s}.{n}" if s else n for s, names in SIZES.items() for n in names]


def paper(width: int) -> Table:
    """DreamerV3's sizes at width d; training-related sizes do not depend on it."""
    classes = max(2, width // 16)
    return {
        "tasks": {"image_size": 64},
        "model": {
            "width": width,
            "layers": 3,
            "recurrent": 8 * width,
            "blocks": 8,
            "latents": 32,
            "classes": classes,
            "image_depth": max(2, width // 16),
            "bins": 255,
            "bin_reach": 20.0,
        },
        "behaviour": {
            "width": width,
            "layers": 3,
            "imagination_starts": 16 * 64,
            "imagination_horizon": 15,
            "bins": 255,
            "bin_reach": 20.0,
        },
        "curiosity": {"width": width, "learning_rate": 4e-5},
        "planning": {"samples": 512, "elites": 64, "iterations": 6, "horizon": 5},
        "training": {
            "environments": 16,
            "batch_size": 16,
            "batch_length": 64,
            "overlap": True,
            "precision": "bfloat16",
            "model_learning_rate": 4e-5,
            "actor_learning_rate": 4e-5,
            "critic_learning_rate": 4e-5,
            "warmup_updates": 1000,
        },
    }


def cap(data: Table, own: Table) -> None:
    """Lower every size in `data` to smoke's, in place; `own` sizes of the study may lie higher.

    `data` holds what the study sets beyond the defaults, so defaults are looked up.
    """
    from stages.settings import Study  # here, since presets are listed without the settings

    chosen = flatten(own)
    for key, most in flatten(SMOKE).items():
        *sections, name = key
        fields: Any = Study.model_fields
        node = data
        for section in sections:
            fields = fields[section].annotation.model_fields
            node = node.setdefault(section, {})
        limit = chosen.get(key, most)
        node[name] = _lowered(node.get(name, fields[name].default), limit)
    steps = data["transfer"]["steps"]
    for name, row in data["transfer"].get("arms", {}).items():
        own_limit = chosen.get(("transfer", "arms", name, "prior_steps"))
        if isinstance(row, dict) and isinstance(row.get("prior_steps"), int):
            row["prior_steps"] = min(row["prior_steps"], own_limit or max(1, steps // 4))
        own_limit = chosen.get(("transfer", "arms", name, "relabelled_updates"))
        if isinstance(row, dict) and isinstance(row.get("relabelled_updates"), int):
            row["relabelled_updates"] = min(row["relabelled_updates"], own_limit or RELABELLED)


def _lowered(value: Any, limit: Any) -> Any:
    """The smaller of two sizes; a list of seeds is cut, the rest stays."""
    if value is None:
        return limit
    if isinstance(value, list | tuple) and isinstance(limit, int):
        return list(value)[:limit]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(value, limit) if isinstance(limit, int | float) else value
    return value
