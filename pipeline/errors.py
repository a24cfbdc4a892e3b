"""The pipeline's one error for user mistakes, and the search for the name that was meant."""

import difflib
from collections.abc import Iterable


class StudyError(Exception):
    """A mistake in a study, a command or a run folder; one line for the user, exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def nearest(name: str, names: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The valid name most like `name`, or None if nothing is close."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def suggestion(name: str, names: Iterable[str], limit: int = 12) -> str:
    """The end of an error line: the nearest valid name, else the valid names themselves."""
    names = list(names)
    if (match := nearest(name, names)) is not None:
        return f"did you mean {match}?"
    if not names:
        return "none is valid here"
    rest = ", ..." if len(names) > limit else ""
    return "valid: " + ", ".join(names[:limit]) + rest
