"""How the layers of a study become one table: study, preset, variant, --set, in that order.

Sections merge key by key. The rows of [transfer.arms] are a table of their own: a study that
writes it replaces the default arms, and --set on the whole table or on one row replaces that.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import presets
from pipeline.errors import StudyError, suggestion
from pipeline.toml import Key, Table, flatten, join_key, show, split_key

ARMS: Key = ("transfer", "arms")


@dataclass
class Layers:
    """A table under construction, and where each key was last set (for error lines)."""

    data: Table
    origins: dict[Key, str] = field(default_factory=dict)

    def assign(self, key: Key, value: Any, origin: str) -> None:
        """Set one key; a table merges into a section, but replaces the arms or one of them.

        Raises:
            StudyError: the way to the key leads through something that is not a table.
        """
        if isinstance(value, Mapping) and value and key[:2] != ARMS:
            for name, item in value.items():
                self.assign((*key, name), item, origin)
            return
        node = self.data
        for depth, part in enumerate(key[:-1], start=1):
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise StudyError(
                    f"{origin}: {join_key(key)} = {show(value)}: {join_key(key[:depth])}"
                    " is a value, not a table"
                )
        node[key[-1]] = copy.deepcopy(value)
        self.origins[key] = origin
        normalise_arms(self.data)

    def merge(self, table: Mapping[str, Any], origin: str, *, dotted: bool = False) -> None:
        """Set every leaf of a table; `dotted` splits quoted keys such as "planning.learn"."""
        for name, value in table.items():
            self.assign(split_key(name) if dotted and "." in name else (name,), value, origin)

    def origin(self, key: Key, default: str) -> str:
        """Where a key, or the nearest thing above or below it, was last set."""
        for known, origin in reversed(self.origins.items()):
            shorter = min(len(known), len(key))
            if known[:shorter] == key[:shorter]:
                return origin
        return default


def normalise_arms(data: Table) -> None:
    """Write every list row of [transfer.arms] as the table it stands for, in place."""
    transfer = data.get("transfer")
    arms = transfer.get("arms") if isinstance(transfer, dict) else None
    if isinstance(arms, dict):
        for name, row in arms.items():
            if isinstance(row, list):
                arms[name] = {"carry": row}


def check_preset(table: Any, name: str, file: str) -> None:
    """A preset changes sizes only.

    Raises:
        StudyError: it names anything else.
    """
    if not isinstance(table, dict):
        raise StudyError(f"{file}: presets.{name} must be a table of sizes")
    for key, value in flatten(dotted_out(table)).items():
        if not presets.is_size(key):
            full = join_key(("presets", name, *key))
            hint = suggestion(join_key(key), presets.size_names())
            raise StudyError(
                f"{file}: {full} = {show(value)}: a preset changes sizes only,"
                f" and {join_key(key)} is none; {hint}"
            )


def dotted_out(table: Mapping[str, Any]) -> Table:
    """The table with quoted dotted keys at its top written out as nested tables."""
    layers = Layers({})
    layers.merge(table, "", dotted=True)
    return layers.data
