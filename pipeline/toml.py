"""TOML as the pipeline uses it: reading with one-line errors, dotted keys, and writing.

The standard library reads TOML but does not write it; `dumps` writes what settings consist of
(tables, arrays of plain values, strings, numbers, booleans).
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StudyError

_DEEPEST = 16  # tables and arrays inside each other; settings need half as many
_BRIEF = 200  # characters of a value that a message repeats
_TABLES = 2  # tables deeper than [transfer.arms] are written inline, which keeps their order
_LEAF = "the key ends here"  # tells a key from text that brings its own `=`
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]*")

Table = dict[str, Any]
Key = tuple[str, ...]


def read(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        StudyError: it is missing, unreadable, not TOML, or nested beyond all sense.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        return _loads(text)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from None


def _loads(text: str) -> Table:
    """Parse TOML.

    Raises:
        ValueError: it is none, or nested so deep that what reads it later would give up.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    level: list[Any] = list(table.items())
    for _ in range(_DEEPEST):
        level = [(key, inner) for key, value in level for inner in _inside(value)]
    if level:
        raise ValueError(f"{join_key((level[0][0],))}: nested more than {_DEEPEST} deep")
    return table


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def split_key(text: str) -> Key:
    """`planning.learn` -> ("planning", "learn"); parts may be quoted as in TOML.

    Raises:
        StudyError: not a dotted key.
    """
    try:
        node: Any = _loads(f"{text} = '{_LEAF}'")
    except ValueError:
        node = None
    parts: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        part, node = next(iter(node.items()))
        parts.append(part)
    if node != _LEAF:
        raise StudyError(f"{text!r} is not a dotted key such as explore.steps")
    return tuple(parts)


def join_key(key: tuple[str | int, ...]) -> str:
    """The dotted form of a key; numbers are indices into arrays."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = part if _BARE.fullmatch(part) else _quoted(part)
            text += f".{quoted}" if text else quoted
    return text


def parse_value(text: str) -> Any:
    """A value in TOML syntax; a bare word counts as a string, since shells eat quotes.

    Raises:
        ValueError: neither.
    """
    try:
        if "\n" in text:
            raise ValueError(text)
        return _loads(f"value = {text}")["value"]
    except ValueError:
        if _WORD.fullmatch(text):
            return text
        raise ValueError(text) from None


def parse_assignment(text: str) -> tuple[Key, Any]:
    """`KEY=VALUE` of --set.

    Raises:
        StudyError: no `=`, no key, or a value that is not TOML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise StudyError(f"--set {text}: write KEY=VALUE, for example --set explore.steps=2000")
    try:
        path = split_key(key.strip())
    except StudyError as error:
        raise StudyError(f"--set {text}: {error}") from None
    try:
        return path, parse_value(value.strip())
    except ValueError:
        raise StudyError(
            f"--set {text}: the value must be in TOML syntax, for example"
            ' 3, true, \'"text"\' or \'["a", "b"]\''
        ) from None


def flatten(table: Mapping[str, Any], prefix: Key = ()) -> dict[Key, Any]:
    """Leaves of nested tables by key; an empty table is a leaf."""
    leaves: dict[Key, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            leaves |= flatten(value, (*prefix, name))
        else:
            leaves[*prefix, name] = value
    return leaves


def show(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _quoted(value)
        case Mapping():
            inner = ", ".join(f"{join_key((k,))} = {show(v)}" for k, v in value.items())
            return "{ " + inner + " }" if inner else "{}"
        case list() | tuple():
            return "[" + ", ".join(show(item) for item in value) + "]"
        case _:
            return str(value)


def brief(value: Any) -> str:
    """The same for a message, shortened where it is long."""
    text = show(value)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def _quoted(text: str) -> str:
    """A basic string: JSON's, but for the one control character that JSON lets pass."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def dumps(table: Mapping[str, Any]) -> str:
    """Write nested tables as TOML; keys whose value is None are left out.

    Lists of tables become arrays of tables; tables inside other lists are written inline.
    """
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], prefix: Key) -> list[str]:
    lines: list[str] = []
    deeper: list[str] = []
    for name, value in table.items():
        path = (*prefix, name)
        if isinstance(value, Mapping) and len(path) <= _TABLES:
            deeper += ["", f"[{join_key(path)}]", *_lines(value, path)]
        elif _is_tables(value):
            for row in value:
                deeper += ["", f"[[{join_key(path)}]]", *_rows(row)]
        elif value is not None:
            lines.append(f"{join_key((name,))} = {show(value)}")
    return lines + deeper


def _rows(row: Mapping[str, Any]) -> list[str]:
    return [f"{join_key((name,))} = {show(value)}" for name, value in row.items()]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
