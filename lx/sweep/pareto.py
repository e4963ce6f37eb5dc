"""The Pareto front of several objectives: points that no other dominates (as good in all, and better in one)."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the front, where less is better in every coordinate."""
    return [not any(_dominates(other, point) for other in points) for point in points]


def _dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)
