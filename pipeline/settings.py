"""From a study file to typed settings: precedence, presets, variants, one-line errors.

Precedence, weakest first: the defaults, the study, its preset, a variant's `set`, --set.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import assets
from pipeline import presets, toml
from pipeline.checks import check_study, check_variant_names
from pipeline.errors import StudyError, suggestion
from pipeline.explain import explain, to_json
from pipeline.layers import Layers, check_preset, dotted_out, normalise_arms
from pipeline.toml import Table
from stages.settings import Arm, Study, TransferSettings
from tasks.settings import TaskOptions


@dataclass(frozen=True)
class StudyFile:
    """A study as read: one `Study` per variant; without variants, the only key is None."""

    path: Path
    preset: str
    variants: dict[str | None, Study]
    base: Study  # without any variant's `set`
    changes: dict[str, Table] = field(default_factory=dict)  # each variant's `set`, as written

    @property
    def name(self) -> str:
        """The study's name."""
        return self.first.name

    @property
    def shown(self) -> str:
        """What to type for this study: a ready-made one's name, or the file's path."""
        return self.path.stem if self.path == ready_made().get(self.path.stem) else str(self.path)

    @property
    def first(self) -> Study:
        """The study of the first variant; what does not vary is read off it."""
        return next(iter(self.variants.values()))


def ready_made() -> dict[str, Path]:
    """The studies that come with the package, by name."""
    folder = Path(assets.__file__).parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_study(name: str | Path) -> Path:
    """A study file by path, or a ready-made one by name.

    Raises:
        StudyError: neither exists.
    """
    path = Path(name)
    studies = ready_made()
    if path.is_dir() and ((path / "study.toml").is_file() or str(name) not in studies):
        path = path / "study.toml"
    if path.is_file():
        return path
    if str(name) in studies:
        return studies[str(name)]
    if path.name == "study.toml" and path.parent.is_dir():
        raise StudyError(f"{name}: a folder without a study.toml; name a study file")
    raise StudyError(f"{name}: no such study file; ready-made ones: {', '.join(studies)}")


def load_study(
    path: str | Path,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    *,
    exploration: bool = True,
) -> StudyFile:
    """Read, layer and check a study.

    Args:
        path: a study file, a run folder, or the name of a ready-made study.
        preset: a built-in preset or one of the study's own; `cpu` if None.
        overrides: `KEY=VALUE` with values in TOML syntax, applied last.
        exploration: False where an exploration from elsewhere is carried, so that
            `explore.steps = 0` is no contradiction to an arm that carries.

    Raises:
        StudyError: a mistake, in one line with file, key, value and what would be right.
    """
    file = find_study(path)
    body = toml.read(file)
    body.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "study")
    own = _presets(body, file)
    rows = _variants(body, file)
    name = _preset_name(preset, own, file)
    assignments = [toml.parse_assignment(text) for text in overrides]

    studies: dict[str | None, Study] = {}
    for variant, changes in rows.items():
        layers = _layer(body, file, name, own.get(name, {}), variant, changes, assignments)
        study = _typed(layers, str(file))
        studies[variant] = check_study(
            study,
            where=lambda key, layers=layers: layers.origin(key, str(file)),
            exploration=exploration,
        )
    base = studies.get(None) or _typed(
        _layer(body, file, name, own.get(name, {}), None, {}, assignments), str(file)
    )
    kept = {variant: changes for variant, changes in rows.items() if variant is not None}
    return StudyFile(file, name, studies, base, kept)


def _presets(body: Table, file: Path) -> dict[str, Table]:
    own = body.pop("presets", {})
    if not isinstance(own, dict):
        raise StudyError(f"{file}: presets must be a table, as in [presets.smoke]")
    for name, table in own.items():
        check_preset(table, name, str(file))
    return {name: dotted_out(table) for name, table in own.items()}


def _preset_name(preset: str | None, own: dict[str, Table], file: Path) -> str:
    name = preset or presets.DEFAULT
    known = [*presets.BUILT_IN, *(other for other in own if other not in presets.BUILT_IN)]
    if name not in known:
        raise StudyError(f"{file}: --preset {name}: no such preset; {suggestion(name, known)}")
    return name


def _variants(body: Table, file: Path) -> dict[str | None, Table]:
    rows = body.pop("variants", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StudyError(f"{file}: variants must be an array of tables, as in [[variants]]")
    for number, row in enumerate(rows):
        for key in row:
            if key not in ("name", "set"):
                hint = suggestion(key, ("name", "set"))
                raise StudyError(
                    f"{file}: variants[{number}].{key} = {toml.show(row[key])}: unknown key; {hint}"
                )
        if not isinstance(row.get("name"), str):
            raise StudyError(f"{file}: variants[{number}].name: every variant needs a name")
        if not isinstance(row.get("set", {}), dict):
            raise StudyError(f"{file}: variants[{number}].set must be a table")
    check_variant_names([row["name"] for row in rows], str(file))
    return {row["name"]: row.get("set", {}) for row in rows} or {None: {}}


def _layer(
    body: Table,
    file: Path,
    preset: str,
    own: Table,
    variant: str | None,
    changes: Table,
    assignments: Sequence[tuple[toml.Key, Any]],
) -> Layers:
    layers = Layers(copy.deepcopy(body))
    normalise_arms(layers.data)
    _default_arms(layers.data)
    if preset == "paper":
        width = _width(own, dotted_out(changes), dict(assignments))
        layers.merge(presets.paper(width), "--preset paper")
    layers.merge(own, f"{file}: presets.{preset}")
    layers.merge(changes, f"{file}: variant {variant}", dotted=True)
    if preset == "smoke":
        _typed(layers, str(file))  # caps rely on right types
        presets.cap(layers.data, own)
    for key, value in assignments:
        layers.assign(key, value, "--set")
    return layers


def _default_arms(data: Table) -> None:
    """Give a study without [transfer.arms] the four arms, so that a layer can add a fifth."""
    transfer = data.setdefault("transfer", {})
    if isinstance(transfer, dict) and "arms" not in transfer:
        arms = TransferSettings.model_fields["arms"].get_default(call_default_factory=True)
        transfer["arms"] = {name: {"carry": list(arm.carry)} for name, arm in arms.items()}


def _width(own: Table, changes: Table, assignments: dict[toml.Key, Any]) -> int:
    """The width that the paper's other sizes follow: the strongest layer that names one."""
    key = ("model", "width")
    for value in (
        assignments.get(key),
        toml.flatten(changes).get(key),
        toml.flatten(own).get(key),
    ):
        if isinstance(value, int) and value >= 16:
            return value
    return presets.PAPER_WIDTH


def _typed(layers: Layers, file: str) -> Study:
    try:
        return Study.model_validate_json(to_json(layers.data), strict=True)
    except ValidationError as error:
        raise explain(error, layers, file) from None


def task_options(observe: str) -> TaskOptions:
    """How to build a task that is observed as in `state,image`.

    Raises:
        StudyError: unknown observation.
    """
    names = [part.strip() for part in observe.split(",")]
    try:
        return TaskOptions.model_validate({"observe": names})
    except ValidationError:
        hint = suggestion(observe, ("state", "image", "state,image"))
        raise StudyError(f"--observe {observe}: no such observation; {hint}") from None


def resolved(study: Study) -> Table:
    """Every setting of a study, as `study.toml` of a run holds it."""
    table = study.model_dump(mode="json", by_alias=True)
    table["transfer"]["arms"] = {
        name: _row(Arm.model_validate(row)) for name, row in table["transfer"]["arms"].items()
    }
    return table


def _row(arm: Arm) -> Any:
    """The short form of an arm where it says all."""
    row = arm.model_dump(mode="json", exclude_defaults=True)
    return list(arm.carry) if set(row) <= {"carry"} else {"carry": list(arm.carry), **row}
