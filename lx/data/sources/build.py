"""Builds the source of ``cfg.data``."""

from __future__ import annotations

import inspect

from omegaconf import DictConfig

from lx.config.instantiate import build, current_target
from lx.data.sources.base import Source


def build_source(data: DictConfig) -> Source:
    """Build ``data.source`` with those settings of the node ``data`` that its class has parameters for.

    A setting in the node ``data.source`` itself goes before one of ``data`` with the same name.

    Raises:
        LxError: The class cannot be imported, or refuses a setting.
    """
    node = data.source
    names = _parameters(current_target(str(node.get("_target_", ""))))
    settings = {name: data[name] for name in names if name in data and name not in node}
    source: Source = build(node, "data.source", _convert_="all", **settings)
    return source


def _parameters(target: str) -> list[str]:
    """Return the names of the parameters of a class or function; none if it cannot be imported."""
    from hydra.utils import get_object

    try:
        signature = inspect.signature(get_object(target))
    except (ImportError, ValueError, TypeError):
        return []  # building it explains what is wrong
    return [name for name, parameter in signature.parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
