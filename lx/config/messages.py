"""Put what Hydra and OmegaConf raise about a user's overrides into plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lx.config.conflicts import hardware_refusal
from lx.config.session import compose_unchecked, group_choices
from lx.errors import LxError, did_you_mean

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


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
    cause = f"{text}\n{error.__cause__}"
    if (key := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", cause)) or (
        key := re.search(r"full_key: ([\w.]+)", cause)
    ):
        return _unknown_key(key.group(1), hydra, overrides)
    first_line = text.splitlines()[0] if text else type(error).__name__
    return f"{first_line}\n  An override is written key=value; quote values with spaces or commas: 'key=\"a, b\"'."


def _unknown_option(path: str, hydra: Hydra) -> str:
    group, _, option = path.rpartition("/")
    options = sorted(o for o in hydra.config_loader.get_group_options(group) if not o.startswith("_"))
    if not options:
        return f"no config group {group or path!r}{did_you_mean(group or path, hydra.config_loader.list_groups(''))}"
    return f"{group}={option}: no such option{did_you_mean(option, options)}; there are: {', '.join(options)}"


def _unknown_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> str:
    from omegaconf import OmegaConf

    try:
        known = list(_keys(OmegaConf.to_container(compose_unchecked(hydra, group_choices(hydra, overrides)))))
    except Exception:  # a second fault in the same command line: the first is reported without suggestions
        known = []
    hint = did_you_mean(key, [*known, *hydra.config_loader.list_groups("")])
    parent = key.rpartition(".")[0]
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    listed = f"; {parent or 'the top level'} has: {', '.join(siblings)}" if siblings else ""
    return f"there is no setting {key!r}{hint}{listed}"


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every mapping and value in nested mappings."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _keys(child, f"{prefix}{name}.")
