"""Building objects from config nodes: freely from a user's own command, by an allowlist from a run directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lx.config.compose import resolved
from lx.config.session import conf_dir
from lx.errors import ArgumentError, LxError, first_line, require_list, shorten_text

# Where the targets named by configurations of lx 0.1 are now.
_MOVED_MODULES = {
    "lx.data.docstrings": "lx.data.sources.docstrings.source",
    "lx.data.files": "lx.data.sources.files",
    "lx.data.hub": "lx.data.sources.hub",
    "lx.data.recipes": "lx.data.tokens.recipes",
}
_LONGEST_NAME = 100  # of a package that a message advises to trust
_RENAMED_TARGETS = {
    "lx.optim.adam.Adam": "torch.optim.Adam",
    "lx.optim.adam.AdamW": "torch.optim.AdamW",
    "lx.tracking.tensorboard.tensorboard_logger": "lx.tracking.tensorboard.TensorBoardTracker",
}


def build(node: Any, where: str, **arguments: Any) -> Any:
    """Instantiate a config node and explain what goes wrong.

    Args:
        node: a mapping with ``_target_``.
        where: the node's key in the configuration, for messages.
        arguments: added to the node's own.

    Raises:
        LxError: the target cannot be imported or does not accept its settings.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(rename_targets(node), **arguments)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, LxError):
            cause = cause.__cause__
        if isinstance(cause, ArgumentError):
            raise LxError(f"{where}.{cause}") from error
        if isinstance(cause, LxError):
            raise cause from error
        raise LxError(f"{where} cannot be built: {type(cause).__name__}: {first_line(cause)}") from error


_NOT_OF_NETWORK = ("expert", "num_members", "adversarial")


def build_network(node: Any, **sizes: int) -> Any:
    """Build the network of a ``model`` node, an ensemble if it has several members; see :func:`build`.

    The network takes no arguments for the expert, the number of members or adversarial training: they are left out.
    """
    from hydra.utils import get_class
    from omegaconf import DictConfig

    settings = resolved(node) if isinstance(node, DictConfig) else node
    num_members = settings.get("num_members", 1)  # older runs have none
    arguments = {name: value for name, value in settings.items() if name not in _NOT_OF_NETWORK}
    members = [build(arguments, "model", **sizes) for _ in range(num_members)]
    return members[0] if num_members == 1 else get_class("lx.nn.ensemble.Ensemble")(members)


@contextmanager
def argument_keys(where: str) -> Iterator[None]:
    """Turn an ArgumentError into an LxError whose message begins with the argument's key in the configuration."""
    try:
        yield
    except ArgumentError as error:
        raise LxError(f"{where}.{error}") from error


def rename_targets(node: Any) -> Any:
    """Replace the targets of an older lx, anywhere in a config node, by where they are now."""
    from omegaconf import DictConfig, OmegaConf

    if isinstance(node, DictConfig):
        plain = OmegaConf.to_container(node, resolve=True)
        renamed = rename_targets(plain)
        return node if renamed == plain else renamed
    if isinstance(node, dict):
        renamed = {key: rename_targets(value) for key, value in node.items()}
        return {**renamed, "_target_": current_target(str(node["_target_"]))} if "_target_" in node else renamed
    return [rename_targets(value) for value in node] if isinstance(node, list) else node


def current_target(target: str) -> str:
    """The name that a target has now, if an older lx had another."""
    module, dot, name = target.rpartition(".")
    return _RENAMED_TARGETS.get(target, f"{_MOVED_MODULES.get(module, module)}{dot}{name}")


def check_targets(
    config: dict[str, Any], path: Path, trust: Sequence[str] = (), nodes: Sequence[str] | None = None
) -> None:
    """Refuse a run directory's configuration that would build anything but what lx's own ``conf`` names.

    Being importable is not being safe (``torch.load`` is importable), hence a list of known names; nothing is imported
    to find out.

    Args:
        config: the whole configuration.
        path: its file, for the message.
        trust: the user's own packages whose classes may be built as well.
        nodes: that will be built, each from targets that its own folder of ``conf`` names; None: the whole config.

    Raises:
        LxError: names the target and what to do.
    """
    require_list("trust", trust)
    for node in nodes or ():
        if not isinstance(config.get(node), dict):
            raise LxError(f"{path} has no {node} node: this is not the configuration of a run")
    known = _known_targets(None if nodes is None else tuple(nodes))
    for target in _targets(config if nodes is None else [config[node] for node in nodes]):
        if target not in known and not any(target.startswith(f"{package}.") for package in trust):
            package = target.partition(".")[0]
            advice = f"; if you wrote it yourself and trust this run, add --trust {package}" if _is_own(package) else ""
            raise LxError(
                f"{path} asks to build {shorten_text(target)!r}, which is none of lx's own, and was refused{advice}"
            )


def packages_to_trust(config: dict[str, Any], nodes: Sequence[str]) -> list[str]:
    """Return the packages that have to be trusted for these nodes to be built: those of a user's own classes."""
    known = _known_targets(tuple(nodes))
    return sorted(
        {
            target.partition(".")[0]
            for target in _targets([config[node] for node in nodes])
            if target not in known and "." in target
        }
    )


@cache
def _known_targets(nodes: tuple[str, ...] | None) -> frozenset[str]:
    """Return the targets that the files of ``conf`` name, or those in some of its folders."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    folders = [conf_dir()] if nodes is None else [conf_dir() / node for node in nodes]
    texts = (file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("*.yaml"))
    return frozenset(target for text in texts for target in _targets(yaml.load(text, Loader=loader)))


def _is_own(package: str) -> bool:
    """Return whether a package may be the user's own: neither Python's nor one that was installed from elsewhere."""
    if (
        not package.isidentifier()
        or len(package) > _LONGEST_NAME
        or package in (*sys.builtin_module_names, *sys.stdlib_module_names)
    ):
        return False
    try:
        spec = find_spec(package)  # imports nothing
    except (ImportError, ValueError):
        return True
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return not any("site-packages" in Path(place).parts or "dist-packages" in Path(place).parts for place in places)


def _targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
