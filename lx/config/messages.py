"""Put what Hydra and OmegaConf raise about a user's overrides into plain words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lx.config.conflicts import hardware_refusal
from lx.config.grammar import parse_strictly
from lx.config.session import compose_sweep, compose_unchecked, group_choices
from lx.errors import LxError, did_you_mean, first_line, shorten, shorten_text

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


_NAMING_A_KEY = (
    r"Key '[^']+' is not in struct\s+full_key: ([\w.]+)",
    r"Could not (?:override|delete from config\.) '([^']+)'",
    r"full_key: ([\w.]+)",
)
_OF_FILES = ("data.train", "data.validation", "data.test", "data.text", "data.label", "data.text_pair", "data.path")


@contextmanager
def plain_errors(hydra: Hydra, overrides: Sequence[str]) -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf into an LxError that names the override and what there is instead."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises some bare ValueErrors
        raise LxError(_message(error, hydra, overrides)) from error


def _message(error: Exception, hydra: Hydra, overrides: Sequence[str]) -> str:
    text = str(error).strip()
    if override := re.match(r"In '([^']+)': Could not override '([^'@]+)", text):
        path, group = override.groups()
        if group == "hardware":
            return str(hardware_refusal(path, group))
        return f"{path}.yaml: 'override /{group}' in its defaults list has nothing to override"
    if option := re.search(r"Could not find '([\w/.\-]+)'", text):
        return _unknown_option(option.group(1), hydra)
    if "Config group override must be" in text:
        return _no_option(hydra, overrides)
    cause = f"{text}\n{error.__cause__}"
    for pattern in _NAMING_A_KEY:
        if key := re.search(pattern, cause):
            return _unknown_key(key[1], hydra, overrides)
    return shorten_text(first_line(error), 500)


def _unknown_option(path: str, hydra: Hydra) -> str:
    group, _, option = path.rpartition("/")
    if not (options := _options(hydra, group)):
        return f"no config group {group or path!r}{did_you_mean(group or path, hydra.config_loader.list_groups(''))}"
    return f"{group}={option}: no such option{did_you_mean(option, options)}; there are: {shorten(options)}"


def _no_option(hydra: Hydra, overrides: Sequence[str]) -> str:
    """Explain the override of a group whose value Hydra reads as null, a number or a truth value."""
    parsed = map(parse_strictly, group_choices(hydra, overrides))
    choice = next(str(override.input_line) for override in parsed if not isinstance(override.value(), str | list))
    group = choice.lstrip("+").partition("=")[0]
    return f"{choice}: leave it out, or choose one of {shorten(_options(hydra, group))}"


def _options(hydra: Hydra, group: str) -> list[str]:
    return sorted(name for name in hydra.config_loader.get_group_options(group) if not name.startswith("_"))


def _unknown_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> str:
    from omegaconf import OmegaConf

    if re.match(r"sweep\b", key):
        return _unknown_sweep_key(key, hydra, overrides)
    try:
        known = list(_keys(OmegaConf.to_container(compose_unchecked(hydra, group_choices(hydra, overrides)))))
    except Exception:  # a second fault in the same command line: the first is reported without suggestions
        known = []
    if key in known or f"~{key}" in overrides:
        return f"{key} is needed: leave out ~{key}"
    settings = [name for name in known if name.startswith("recipe.") == key.startswith("recipe.")]
    hint = did_you_mean(key, [*settings, *hydra.config_loader.list_groups("")])
    parent = key.rpartition(".")[0]
    if parent in ("callbacks", "logger"):
        hint = f"; add a node of your own with '+{key}={{_target_: your_package.YourClass}}'"
    elif parent == "data" and key in _OF_FILES:
        hint = " beside the data that is chosen: add data=files (or data=hub) for data of your own"
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    listed = f"; {parent or 'the top level'} has: {shorten(siblings)}" if siblings else ""
    return f"there is no setting {key!r}{hint}{listed}"


def _unknown_sweep_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> str:
    """Explain a misspelt setting of a sweep, or a correct one in the command of a single run."""
    from omegaconf import OmegaConf

    known = list(_keys(OmegaConf.to_container(compose_sweep(hydra))))
    given = next((text for text in overrides if text.startswith(key)), key)  # Hydra may name the node alone
    setting = given.partition("=")[0]
    if "." not in setting or setting.removeprefix("sweep.") in known:
        return f"{given}: a sweep needs -m: lx train -m {shlex.quote(given)} ..."
    hint = did_you_mean(setting, [f"sweep.{name}" for name in known])
    return f"there is no setting {setting!r}{hint}; sweep has: {shorten(known)}"


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every mapping and value in nested mappings."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _keys(child, f"{prefix}{name}.")
