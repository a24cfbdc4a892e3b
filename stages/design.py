"""How the arms are read: which is the baseline, and which four make the 2 x 2 design."""

from dataclasses import dataclass

from stages.settings import GROUPS, Arm

MODEL, POLICY = frozenset(GROUPS["world_model"]), frozenset(GROUPS["policy"])
CURIOUS = frozenset(GROUPS["curious_policy"])
ENCODER = MODEL & POLICY


@dataclass(frozen=True)
class Cells:
    """The arms of the 2 x 2 design: model carried or not x policy carried or not."""

    origin: str
    model: str
    policy: str
    both: str
    includes_encoder: bool  # the origin carries nothing, so both effects include the encoder's


def baseline(arms: dict[str, Arm]) -> str | None:
    """The arm that the others are measured against: the one that carries nothing, else the least.

    None without arms.
    """
    if not arms:
        return None
    return min(arms, key=lambda name: (not _plain(arms[name]), _weight(arms[name])))


def fullest(arms: dict[str, Arm]) -> str | None:
    """The plain arm that carries the most; None if none carries anything."""
    carrying = [name for name, arm in arms.items() if arm.components]
    if not carrying:
        return None
    return max(carrying, key=lambda name: (_plain(arms[name]), _weight(arms[name])))


def cells(arms: dict[str, Arm]) -> Cells | None:
    """The design, with the arm `encoder` as its origin where there is one; None if incomplete.

    Only arms that differ in nothing but what they carry take part: more env steps or a carried
    replay would be read as an effect of the model or the policy. A policy counts with its explorer
    or without it, but the same in both of its arms.
    """
    by_parts: dict[frozenset[str], str] = {}
    for name, arm in arms.items():
        if _plain(arm):
            by_parts.setdefault(frozenset(arm.components), name)
    origin = by_parts.get(ENCODER) or by_parts.get(frozenset())
    for policy in (CURIOUS, POLICY):
        found = (origin, *(by_parts.get(parts) for parts in (MODEL, policy, MODEL | policy)))
        if all(found):
            return Cells(*map(str, found), includes_encoder=ENCODER not in by_parts)
    return None


def pairs(arms: dict[str, Arm]) -> list[tuple[str, str]]:
    """Every pair of arms as (better, worse): the hypothesis is that carrying more is better."""
    order = sorted(
        arms, key=lambda name: (name != baseline(arms), _weight(arms[name]), not _plain(arms[name]))
    )
    return [(better, worse) for i, worse in enumerate(order) for better in order[i + 1 :]]


def _plain(arm: Arm) -> bool:
    controls = (arm.prior_steps, arm.replay_share, arm.equal_total, arm.relabelled_updates)
    return not (any(controls) or arm.evaluate)


def _weight(arm: Arm) -> int:
    return len(arm.components)
