"""How figures are summed up and shown. No measuring here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple, Self


class Spread(NamedTuple):
    """The rounds of one figure: a single number would hide how much they differ."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sum up one value for each round."""
        values = list(values)
        return cls(median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Self:
        """Sum up the ratios round by round, so that a slow moment of the machine falls on both of a pair."""
        return cls.of(a / b for a, b in zip(ours, theirs, strict=True))

    def text(self, digits: int, unit: str = "") -> str:
        """Show as ``median unit [low to high]``."""
        return f"{self.median:.{digits}f}{unit} [{self.low:.{digits}f} to {self.high:.{digits}f}]"


def verdict(met: bool) -> str:
    """Say whether a target was met, in the one word that a reader can search for."""
    return "met" if met else "MISSED"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a plain text table, as wide as its cells; a column of figures is aligned by whoever fills it."""
    grid = [headings, *rows]
    widths = [max(len(row[column]) for row in grid) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(f"  {line}" for line in lines)
