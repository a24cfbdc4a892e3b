"""Validation errors as one line: file, key, value, and what would be right."""

import json
import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline.errors import StudyError, nearest, suggestion
from pipeline.layers import Layers
from pipeline.toml import Table, brief, join_key
from stages.settings import Arm, Study

_TOO_LARGE = 2**63


def to_json(data: Table) -> str:
    """The table as JSON, which pydantic reads strictly yet with arrays for tuples."""
    return json.dumps(_plain(data), default=str)


def _plain(value: Any) -> Any:
    """Numbers that are none, or too large to be one of TOML's, become text, so that the check of
    types refuses them."""
    match value:
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case int() if abs(value) >= _TOO_LARGE:
            return str(value)
        case _:
            return value


def explain(error: ValidationError, layers: Layers, file: str) -> StudyError:
    """The first problem that pydantic found, in one line; how many more there are."""
    problems = error.errors(include_url=False)
    # an unknown key is usually the cause of a missing one
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    key = _real_key(first["loc"], layers.data)
    origin = layers.origin(tuple(str(part) for part in key), file)
    others = len({_real_key(problem["loc"], layers.data) for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    return StudyError(f"{origin}: {_problem(dict(first), key, layers.data)}{more}")


def _real_key(loc: tuple[int | str, ...], data: Any) -> tuple[str | int, ...]:
    """The location without the tags that pydantic adds for the members of a union."""
    key: list[str | int] = []
    node = data
    for position, part in enumerate(loc):
        if isinstance(node, dict):
            key.append(part)
            if part not in node and position < len(loc) - 1:
                break
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            key.append(part)
            node = node[part]
    return tuple(key)


def _problem(problem: dict[str, Any], key: tuple[str | int, ...], data: Table) -> str:
    name = join_key(key)
    if problem["type"] == "missing":
        return f"{name} is missing: it has no default"
    value = _value(key, data)
    stated = f"{name} = {brief(value)}"
    match problem["type"]:
        case "int_type" | "float_type" if isinstance(value, int) and abs(value) >= _TOO_LARGE:
            return f"{stated}: too large: whole numbers of TOML have 64 bits"
        case "extra_forbidden":
            return f"{stated}: unknown key; {_key_hint(key)}"
        case "literal_error":
            choices = _choices(problem)
            match = nearest(str(value), choices)
            hint = f"; did you mean {match}?" if match else ""
            return f"{stated}: must be one of {', '.join(choices)}{hint}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{stated}: must be a table"
        case "string_pattern_mismatch":  # names that become folders
            return f"{stated}: use letters, digits, '.', '_' and '-'"
        case "int_type" | "int_from_float" if _whole(value):
            return f"{stated}: must be a whole number; write {int(value)}"
        case _:
            return f"{stated}: {_lower(problem['msg'])}"


def _whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    for thing in ("Input", "Tuple", "String", "Dictionary"):
        message = message.replace(f"{thing} should", "must")
    message = message.replace(" after validation", "")
    return message.replace("must be a valid tuple", "must be an array")


def _choices(problem: dict[str, Any]) -> list[str]:
    expected = problem.get("ctx", {}).get("expected", "")
    return [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]


def _value(key: tuple[str | int, ...], data: Any) -> Any:
    node = data
    for part in key:
        node = node[part]
    return node


def _key_hint(key: tuple[str | int, ...]) -> str:
    """The nearest name in the same section, else the section that knows the name."""
    *section, name = [str(part) for part in key]
    here = keys_of(tuple(section))
    everywhere = [dotted for dotted in setting_names() if dotted.split(".")[-1] == name]
    match = nearest(name, here, cutoff=0.75 if everywhere else 0.5)
    if match is not None:
        return f"did you mean {join_key((*section, match))}?"
    if everywhere:
        return f"did you mean {' or '.join(everywhere)}?"
    return suggestion(name, here, limit=40)


def keys_of(section: tuple[str, ...]) -> list[str]:
    """The keys that a section of a study knows; the rows of [transfer.arms] are free."""
    model = _model(section)
    if model is None:
        return []
    names = [field.alias or name for name, field in model.model_fields.items()]
    return names if section else [*names, "presets", "variants"]


def _model(section: tuple[str, ...]) -> type[BaseModel] | None:
    if section[:2] == ("transfer", "arms"):
        return Arm if len(section) == 3 else None
    model: type[BaseModel] = Study
    for part in section:
        field = model.model_fields.get(part)
        if field is None or not _is_model(field.annotation):
            return None
        model = field.annotation  # type: ignore[assignment]
    return model


def _is_model(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and not get_args(annotation)
        and issubclass(annotation, BaseModel)
    )


def setting_names() -> list[str]:
    """Every setting of a study, dotted."""
    names: list[str] = []
    for name, field in Study.model_fields.items():
        if _is_model(field.annotation):
            names += [f"{name}.{key}" for key in keys_of((name,))]
        else:
            names.append(name)
    return names
