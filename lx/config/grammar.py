"""Overrides as people type them, in Hydra's grammar.

That grammar gives a meaning to parentheses, quotes, ``=``, ``~`` and ``,``, and knows no letters beyond ASCII. A value
that it refuses is taken as the text that it is, if it can be read in one way only; else a message says how to quote it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.errors import LxError, first_line, shorten_text

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override

_FUNCTION = re.compile(r"\s*(choice|range|interval|glob|shuffle|sort|tag|extend_list|int|float|str|bool|json_str)\s*\(")
_TEXT = r"""(?:"[^"]*"|'[^']*'|[^\s,:\[\]{}"'][^,:\[\]{}]*?)"""
_ITEM = re.compile(rf"\s*(?:(?P<key>{_TEXT})\s*:\s*)?(?P<value>{_TEXT})\s*(?:,|$)")
_PLAIN = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*=[\w./+-]+", re.ASCII)  # nothing that has a meaning in the grammar
_LONGEST = 500  # characters of a value that a message repeats
FILES = ("data.train", "data.validation", "data.test")


def as_grammar(overrides: Sequence[str], several: bool = False) -> list[str]:
    """Return overrides that Hydra's grammar accepts, or :func:`parse` at least, with the values that were typed.

    Args:
        overrides: as typed.
        several: whether an override may list several values, as in a sweep.

    Raises:
        LxError: not written ``key=value``, without a value, or a value that could be read in several ways.
    """
    _refuse_spaces(overrides)
    return [_in_grammar(text, several) for text in overrides]


def parse(overrides: Sequence[str], config_loader: ConfigLoader | None = None) -> list[Override]:
    """Parse what :func:`as_grammar` returned.

    Args:
        overrides: the texts.
        config_loader: knows the groups that a sweep's ``glob`` looks into.

    Raises:
        HydraException: a text that is no override.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=config_loader)
    parsed: list[Override] = []
    for text in overrides:
        key, _, value = text.partition("=")
        try:
            parsed += parser.parse_overrides([text])
        except HydraException:
            if (container := _container(value)) is None:
                raise
            (override,) = parser.parse_overrides([f"{key}={{}}"])
            override._value, override.input_line = container, text
            parsed.append(override)
    return parsed


def parse_strictly(text: str) -> Override:
    """Parse an override by Hydra's own grammar; raise HydraException if it refuses the text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def with_files(overrides: Sequence[str]) -> list[str]:
    """Add ``data=files`` to overrides that name files, and neither another kind of data nor an experiment."""
    keys = [text.lstrip("+").partition("=")[0] for text in overrides]
    implied = any(key in FILES for key in keys) and not {"data", "experiment", "data.path"} & {*keys}
    return ["data=files", *overrides] if implied else list(overrides)


def quoted(value: Any, mark: str = "'") -> str:
    """Write plain data in Hydra's grammar; ``mark`` is the quotation mark round texts."""
    if isinstance(value, str):
        # a backslash is an ordinary character, except before a mark
        doubled = re.sub(rf"(\\*)({mark}|$)", lambda found: 2 * found[1] + (f"\\{mark}" if found[2] else ""), value)
        return f"{mark}{doubled}{mark}"
    if isinstance(value, list):
        return "[" + ",".join(quoted(item, mark) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(item, mark)}" for key, item in value.items()) + "}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def for_shell(key: str, value: str) -> str:
    """Return the word that sets a key to a text, quoted for Hydra and for the shell."""
    word = shlex.quote(f"{key}={quoted(value, mark=chr(34))}")
    return word if len(word) <= _LONGEST else shlex.quote(f'{key}="..."')


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long for a name
        return False


def _refuse_spaces(overrides: Sequence[str]) -> None:
    """Refuse ``key = value``, which the shell hands over in pieces."""
    for before, text, after in zip(overrides, overrides[1:], [*overrides[2:], ""], strict=False):
        lacks_value = before.partition("=")[1:] == ("=", "")
        if text.startswith("=") or (lacks_value and "=" not in text and not text.startswith("~")):
            key, value = before.removesuffix("="), text.removeprefix("=") or after
            word = shlex.quote(f"{key}={value or 'value'}")
            raise LxError(f"{shorten_text(key)}: a setting is written without spaces: {shorten_text(word)}")


def _refuse_malformed(text: str) -> None:
    """Refuse what is not written ``key=value`` or ``~key``."""
    key, equals, value = text.partition("=")
    if key != key.rstrip() or (not equals and "＝" in text):
        word = shlex.quote(re.sub(r"\s*[=＝]\s*", "=", text, count=1))
        raise LxError(
            f"{shorten_text(key)!r}: a setting is written without spaces, with ASCII's =: {shorten_text(word)}"
        )
    if not equals and not text.startswith("~"):
        hint = f"; to read that file: {shlex.quote(f'data.train={text}')}, or data.test=" if _exists(text) else ""
        raise LxError(f"{shorten_text(text)!r} is no setting: a setting is written key=value{hint}")
    if equals and not value.strip() and not text.startswith("~"):
        raise LxError(f"{key} is empty: give it a value, or leave it out. Is a variable of the shell not set?")


def _in_grammar(text: str, several: bool) -> str:
    """Return an override as Hydra's grammar, or :func:`parse`, accepts it."""
    from hydra.errors import HydraException

    if _PLAIN.fullmatch(text):
        return text
    _refuse_malformed(text)
    key, _, value = text.partition("=")
    try:
        override = parse_strictly(text)
    except HydraException as error:
        try:
            parse_strictly(f"{key}=x")
        except HydraException:
            raise LxError(f"{shorten_text(key)!r} can be no setting's name: a setting is written key=value") from error
        return _as_text(key, value, several, first_line(error))
    if override.is_sweep_override() and not several:
        raise LxError(
            f"{shorten_text(text)}: several values are a sweep, and need -m: lx train -m "
            f"{shorten_text(shlex.quote(text))} ...; if this is one value: {for_shell(key, value)}"
        )
    return text


def _as_text(key: str, value: str, several: bool, reason: str) -> str:
    """Rewrite a value that the grammar refuses as the text, list or mapping that it must be.

    Raises:
        LxError: it could be read in several ways; ``reason`` says why the grammar refuses it.
    """
    from hydra.errors import HydraException

    if (container := _container(value)) is not None:
        text = f"{key}={quoted(container)}"
        try:
            is_same = parse_strictly(text).value() == container
        except HydraException:
            is_same = False
        return text if is_same else f"{key}={value}"
    has_syntax = value.lstrip()[0] in "[{'\"" or "${" in value or _FUNCTION.match(value)
    if has_syntax or (several and "," in value):
        if mapping := _with_quoted_names(value):
            hint = f"if a name holds a comma: {shlex.quote(f'{key}={mapping}')}"
        else:
            hint = f"if it is meant as text: {for_shell(key, value)}"
        raise LxError(f"{shorten_text(f'{key}={value}')} cannot be read ({shorten_text(reason)}); {hint}")
    return f"{key}={quoted(value)}"


def _container(value: str) -> list[Any] | dict[str, Any] | None:
    """Read a flat ``[item, ...]`` or ``{name: item, ...}``, whatever its texts hold; None if it is neither."""
    value = value.strip()
    inner, ends = value[1:-1], value[:1] + value[-1:]
    if ends not in ("[]", "{}") or len(value) < 2:
        return None
    items, position = [], 0
    while position < len(inner):
        if (item := _ITEM.match(inner, position)) is None or (item["key"] is None) != (ends == "[]"):
            return None
        items.append((item["key"], _item(item["value"])))
        position = item.end()
    if ends == "[]":
        return [item for _, item in items]
    mapping = {_unquoted(name): item for name, item in items}
    return mapping if len(mapping) == len(items) else None  # no name may occur twice


def _item(text: str) -> Any:
    from hydra.errors import HydraException

    try:
        value = parse_strictly(f"x={text}").value()
    except HydraException:
        return _unquoted(text)
    return value if isinstance(value, str | int | float | None) else text


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] in "'\"" else text.strip()


def _with_quoted_names(value: str) -> str | None:
    """Quote the names of a mapping, some of which hold commas, as in ``{Sci, Tech: 2}``; None if it is no mapping."""
    entries = re.findall(r"\s*([^:\"]+?)\s*:\s*([^,:]+?)\s*(?:,|\}$)", value.strip()[1:])
    if not entries or not value.strip().startswith("{") or not value.strip().endswith("}"):
        return None
    return "{" + ", ".join(f'"{name}": {item}' for name, item in entries) + "}"
