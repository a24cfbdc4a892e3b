"""The tables of `craik tasks`."""

from typing import Any

from pipeline.errors import StudyError, suggestion
from tasks import registry

Rows = list[tuple[str, ...]]


def table(suite: str | None) -> dict[str, Any]:
    """Suites with their tasks, variants and splits, as plain data.

    Raises:
        StudyError: there is no such suite.
    """
    suites = registry.suites()
    if suite is not None and suite not in suites:
        raise StudyError(f"tasks {suite}: no such suite; {suggestion(suite, suites)}")
    return {
        name: {
            "description": found.description,
            "tasks": dict(found.tasks),
            "variants": list(found.variants),
            "splits": {split: list(names) for split, names in found.splits.items()},
        }
        for name, found in suites.items()
        if suite in (None, name)
    }


def rows(data: dict[str, Any], suite: str | None) -> list[tuple[str, tuple[str, ...], Rows]]:
    """Title, columns and rows of each table to print."""
    if suite is None:
        cells = [
            (name, str(len(found["tasks"])), ", ".join(found["variants"]), found["description"])
            for name, found in data.items()
        ]
        cells.append(("gymnasium:ID", "", "", "any gymnasium environment by its id"))
        cells.append(("module:factory", "", "", "your own; also path/to/file.py:factory"))
        return [("suites (craik tasks SUITE says more)", ("suite", "tasks", "variants", ""), cells)]
    found = data[suite]
    tasks = [(f"{suite}/{name}", text) for name, text in found["tasks"].items()]
    tables: list[tuple[str, tuple[str, ...], Rows]] = [
        (f"{suite}: {found['description']}", ("task", ""), tasks)
    ]
    if found["variants"]:
        names = ", ".join(f":{name}" for name in found["variants"])
        tables.append((f"variants: {names}", (), []))
    if found["splits"]:
        splits = [(f"{suite}/{name}", ", ".join(of)) for name, of in found["splits"].items()]
        tables.append(("splits", ("split", "tasks"), splits))
    return tables
