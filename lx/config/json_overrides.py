"""Settings given as a JSON object, such as a W&B agent's ``${args_json}``, as overrides in Hydra's grammar."""

from __future__ import annotations

import json
from typing import Any

from lx.config.flatten import flatten
from lx.config.grammar import parse_strictly, quoted
from lx.errors import LxError


def overrides_from_json(text: str) -> list[str]:
    """Write each setting of a JSON object as an override that reads back as exactly that value.

    An interpolation in a text, such as ``${seed}``, stays one.

    Args:
        text: ``{"optimizer.lr": 1e-05, "model": "tiny"}``; nested objects are dotted keys.

    Raises:
        LxError: not a JSON object, or a key or value that Hydra's grammar cannot express.
    """
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise LxError(f"--json-overrides: not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise LxError('--json-overrides: an object such as {"optimizer.lr": 1e-05, "model": "tiny"} is needed')
    return [_override(key, value) for key, value in flatten(settings).items()]


def _override(key: str, value: Any) -> str:
    from hydra.errors import HydraException

    override = f"{key}={quoted(value)}"
    try:
        parsed = parse_strictly(override)
    except HydraException as error:
        raise _cannot_express(key, value) from error
    # compared as text, in which 1 is not True and nan is nan
    if parsed.get_key_element() != key or repr(parsed.value()) != repr(value):
        raise _cannot_express(key, value)
    return override


def _cannot_express(key: str, value: Any) -> LxError:
    return LxError(f"--json-overrides: {json.dumps({key: value}, ensure_ascii=False)} cannot be written as key=value")
