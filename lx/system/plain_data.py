"""Read YAML and JSON that a stranger may have written: plain data alone, in bounded time and memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lx.errors import LxError, first_line, shorten_text

_MOST_YAML = 1 << 20  # bytes; a configuration has a few thousand
_MOST_JSON = 1 << 26  # bytes; a tokenizer.json of 256,000 pieces has half as many
_MOST_ITEMS = 3_000_000
_MOST_DEPTH = 50


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        LxError: it cannot be read, is too large or too deep, no YAML, or more than plain data: aliases, which can stand
            for any number of copies, and tags, which can stand for any object.
    """
    import yaml

    text = _read(path, _MOST_YAML)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):  # without recursion
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None or depth > _MOST_DEPTH:
                raise LxError(f"{path} is not plain data: it has aliases, tags or too many levels")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise LxError(f"{path} is not a YAML file of plain data: {shorten_text(first_line(error))}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; raise LxError if it cannot be read, is no JSON, too large or too deep."""
    text = read_bounded_json(path)
    try:
        content = json.loads(text)
        _check_depth(content, path)
    except (ValueError, RecursionError) as error:
        reason = "it is too deep" if isinstance(error, RecursionError) else str(error)
        raise LxError(f"{path} is not valid JSON: {shorten_text(reason)}") from error
    return content


def read_bounded_json(path: Path) -> str:
    """Return the text of a JSON file; raise LxError if what it holds could take more than some 100 MB of memory."""
    text = _read(path, _MOST_JSON)
    if sum(map(text.count, "[{,")) > _MOST_ITEMS:
        raise LxError(f"{path} has more than {_MOST_ITEMS:,} items, and was not read")
    return text


def _read(path: Path, most_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1) if os.fstat(file.fileno()).st_size <= most_bytes else None
        if content is None or len(content) > most_bytes:
            raise LxError(f"{path} has more than {most_bytes:,} bytes, and was not read")
        return content.decode("utf-8")
    except OSError as error:
        raise LxError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LxError(f"{path} is not plain data: it is not UTF-8") from error


def _check_depth(value: Any, path: Path, depth: int = 0) -> None:
    if depth > _MOST_DEPTH:
        raise LxError(f"{path} has more than {_MOST_DEPTH} levels, and was not read")
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            if isinstance(child, dict | list):
                _check_depth(child, path, depth + 1)
