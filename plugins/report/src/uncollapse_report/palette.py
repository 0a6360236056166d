"""Colours and marks that tell runs and classes apart, on a white page and on a dark one."""

from __future__ import annotations

__all__ = ["COLORS", "SYMBOLS", "color", "symbol"]

COLORS = (
    "#2f74d0",
    "#c8561b",
    "#1f8a5b",
    "#9b59c6",
    "#c43f60",
    "#158396",
    "#96701c",
    "#6f7d8c",
    "#c1529e",
    "#6b861c",
)
"""Each has a contrast of at least 3:1 against both backgrounds (WCAG 2.2, 1.4.11)."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "pentagon", "star", "hexagon")


def color(index: int) -> str:
    """Return the colour of a run or a class; colours repeat after the tenth."""
    return COLORS[index % len(COLORS)]


def symbol(index: int) -> str:
    """Return the mark of a class, so that colour is not the only difference; with the colour it repeats after ten."""
    return SYMBOLS[index % len(SYMBOLS)]
