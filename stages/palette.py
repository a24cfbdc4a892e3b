"""One colour and one marker per arm, the same in every figure, table and caption.

Colours are CSS variables of the template, chosen to differ for colour-blind readers in the light
and the dark scheme (after Okabe and Ito); the marker says the same without colour.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How one arm is drawn."""

    colour: str
    shape: str


FIXED = {
    "scratch": Style("--arm-scratch", "circle"),
    "model": Style("--arm-model", "square"),
    "policy": Style("--arm-policy", "triangle"),
    "both": Style("--arm-both", "diamond"),
    "encoder": Style("--arm-encoder", "down"),
}
FREE = (
    Style("--arm-1", "cross"),
    Style("--arm-2", "hexagon"),
    Style("--arm-3", "square"),
    Style("--arm-4", "triangle"),
    Style("--arm-5", "diamond"),
    Style("--arm-6", "circle"),
)


def styles(arms: Iterable[str]) -> dict[str, Style]:
    """A style for each arm: its own, or the next free one in the study's order."""
    names = list(dict.fromkeys(arms))
    others = [name for name in names if name not in FIXED]
    free = {name: FREE[index % len(FREE)] for index, name in enumerate(others)}
    return {name: FIXED.get(name) or free[name] for name in names}
