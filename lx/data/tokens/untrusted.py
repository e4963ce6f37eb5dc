"""Refuse a ``tokenizer.json`` from a stranger that could take unbounded time or memory for a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lx.data.tokens.tokenizer import Tokenizer
from lx.errors import LxError, shorten_text
from lx.system.plain_data import read_bounded_json

_MOST_GROWTH = 100  # characters that a normalizer may make of one
_MOST_TEMPLATE = 16  # parts of what a post-processor makes of a text
_LONGEST_PATTERN = 4000
_ATOM = re.compile(r"\\[pPx]\{[^}]*\}|\\[^0-9kg]|\[\^?\]?[^\]]*\]")  # an escape or a class, inside which anything goes
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
_EXPONENTIAL = re.compile(r"\)(?:[*+]|\{)|\\[0-9kg]|\{\d*,?\d{3,}\}")  # a repeated group, a reference, a large count


def load_untrusted(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        LxError: it is none, or its patterns or templates could take unbounded time or memory.
    """
    read_bounded_json(path)
    tokenizer = Tokenizer.load(path)
    growth = 1
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        component = getattr(tokenizer.backend, part)
        for node in _nodes(json.loads(component.__getstate__()) if component is not None else None):
            if isinstance(pattern := node.get("Regex"), str) and not is_bounded(pattern):
                raise LxError(f"{path}: the pattern {shorten_text(pattern)!r} can take unbounded time, and was refused")
            growth *= _growth(node)
            if growth > _MOST_GROWTH or _template_size(node) > _MOST_TEMPLATE:
                raise LxError(f"{path} makes too much of each character or text, and was refused")
    return tokenizer


def is_bounded(pattern: str) -> bool:
    """Return whether a regular expression backtracks little: no repeated group, at most three loops in a branch."""
    simple = _ATOM.sub("x", pattern)
    loops = max(len(_UNBOUNDED.findall(branch)) for branch in simple.split("|"))
    return len(pattern) <= _LONGEST_PATTERN and loops <= 3 and _EXPONENTIAL.search(simple) is None


def _template_size(node: dict[str, Any]) -> int:
    """Return the parts of a post-processor's templates, or the ids of its special tokens if these are more."""
    template = [*(node.get("single") or ()), *(node.get("pair") or ())]
    if not template:
        return 0
    special_tokens = (node.get("special_tokens") or {}).values()
    return max(len(template), sum(len(token.get("ids") or ()) for token in special_tokens))


def _growth(node: dict[str, Any]) -> int:
    """Return how many characters a normalizer's node can make of one."""
    if node.get("type") == "Prepend":
        return 1 + len(node["prepend"])
    if node.get("type") == "Replace":
        pattern = node["pattern"].get("String")
        length = len(node["content"])
        return 1 + length if not pattern else max(1, -(-length // len(pattern)))
    return 1


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in nested containers."""
    if isinstance(tree, dict):
        yield tree
        for child in tree.values():
            yield from _nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)
