"""Writes docs/settings.md from the settings' types: `python -m pipeline.settings_reference`."""

import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import presets
from pipeline.toml import Key, flatten, join_key, show
from stages.settings import COMPONENTS, GROUPS, Arm, Study

TARGET = Path(__file__).parent.parent / "docs" / "settings.md"

_INTRODUCTION = """\
# Settings

Generated from the settings' types by `python -m pipeline.settings_reference`; do not edit.

A study is a TOML file; every key outside `[tasks]` has a default. Precedence, weakest first: the
defaults, the study, its preset, a variant's `set`, `--set KEY=VALUE`.
`craik plan STUDY` reads and checks a study without running it; a mistake is one line with the
file, the key, the value and the nearest valid name, and exit code 2.

A mark in the column *size* means that a preset may change the setting.
"""

_VARIANTS = """\
## [[variants]]

Optional: the same study under other settings, compared in one report. Variants whose
explorations have equal settings share them.

| key | meaning |
|---|---|
| `name` | Folder of the variant in the run, and its name in the report. |
| `set` | Dotted keys and their values: `set = { "agent.curiosity" = "rnd" }`. |
"""


def reference() -> str:
    """The whole document."""
    tables = [
        table
        for name, field in Study.model_fields.items()
        if _is_settings(field.annotation)
        for table in _sections((name,), field.annotation)
    ]
    return "\n".join([_INTRODUCTION, _top(), *tables, _arms(), _VARIANTS, _presets()])


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _top() -> str:
    rows = [
        _row((name,), field)
        for name, field in Study.model_fields.items()
        if not _is_settings(field.annotation)
    ]
    return _table("## Top of the file", rows)


def _sections(name: Key, model: Any) -> list[str]:
    """The table of a section, then those of the sections in it."""
    nested = {k: f.annotation for k, f in model.model_fields.items() if _is_settings(f.annotation)}
    rows = [
        _row((*name, field.alias or key), field)
        for key, field in model.model_fields.items()
        if (*name, key) != ("transfer", "arms") and key not in nested
    ]
    text = (model.__doc__ or "").strip().splitlines()[0]
    note = text.split(": ", 1)[1] if text.startswith("[") and ": " in text else text
    own = _table(f"## [{join_key(name)}]", rows, note[:1].upper() + note[1:])
    return [own, *(t for k, inner in nested.items() for t in _sections((*name, k), inner))]


def _arms() -> str:
    groups = "; ".join(f"`{name}` = {', '.join(parts)}" for name, parts in GROUPS.items())
    note = (
        "One row per arm: a list of what is carried over, or a table that says more.\n\n"
        f"Components: {', '.join(f'`{name}`' for name in COMPONENTS)}. Groups: {groups}."
    )
    rows = [
        _row(("transfer", "arms", "NAME", key), field) for key, field in Arm.model_fields.items()
    ]
    return _table("## [transfer.arms]", rows, note)


def _presets() -> str:
    smoke, paper = flatten(presets.SMOKE), flatten(presets.paper(presets.PAPER_WIDTH))
    keys = list(dict.fromkeys([*smoke, *paper]))
    lines = [
        "## [presets.NAME]",
        "",
        "Presets change sizes only. `cpu` is the defaults. `smoke` lowers sizes to at most its"
        " column, and of arms `prior_steps` to a quarter of `transfer.steps` and"
        f" `relabelled_updates` to {presets.RELABELLED}. `paper` takes DreamerV3's sizes at"
        f" `model.width` = {presets.PAPER_WIDTH} unless the study's `[presets.paper]`, a variant"
        " or `--set` names another width, which the others follow. Learning rates count as sizes,"
        " since those that are stable belong to a width.",
        "",
        "| setting | smoke, at most | paper |",
        "|---|---|---|",
    ]
    for key in keys:
        cells = [f"`{show(column[key])}`" if key in column else "" for column in (smoke, paper)]
        lines.append(f"| `{join_key(key)}` | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, ""])


def _table(title: str, rows: list[str], note: str = "") -> str:
    head = ["| setting | type | default | size | meaning |", "|---|---|---|---|---|"]
    return "\n".join([title, "", *([note, ""] if note else []), *head, *rows, ""])


def _row(key: Key, field: FieldInfo) -> str:
    size = "yes" if presets.is_size(key) else ""
    kind = _type(field.annotation) + _bounds(field)
    return f"| `{key[-1]}` | {kind} | {_default(field)} | {size} | {field.description or ''} |"


def _type(annotation: Any) -> str:
    names = {int: "integer", float: "number", str: "text", bool: "boolean", type(None): "none"}
    if annotation in names:
        return names[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{show(value)}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(arg) for arg in args if arg is not type(None))
    if origin is tuple:
        return f"list of {_type(args[0])}"
    return typing.cast(str, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "the file's name" if "study's name" in (field.description or "") else "**required**"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{show(value)}`"


def main() -> None:
    """Write the document."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(reference(), encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
