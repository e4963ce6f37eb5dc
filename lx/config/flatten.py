"""Nested settings as dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key; an empty mapping is a leaf.

    Args:
        tree: plain containers.
        prefix: of every key.
    """
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        leaves |= flatten(value, f"{key}.") if isinstance(value, dict) and value else {key: value}
    return leaves
