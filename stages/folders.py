"""Names of folders inside a run."""

import hashlib
import re


def slug(task: str) -> str:
    """A task's name as a readable folder name; user tasks get a hash, as paths can look alike."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip("-.")
    suite = "/" in task and ".py:" not in task
    if suite or task.startswith("gymnasium:"):
        return readable
    return f"{readable[-60:].lstrip('-.')}-{hashlib.sha256(task.encode()).hexdigest()[:6]}"
