"""Composing the configuration: where ``conf/`` is, what may be overridden, and what a wrong override is told.

Nothing here imports torch, so ``lx --help`` and ``lx train --cfg job`` answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.errors import LxError, did_you_mean

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

CONFIG_NAME = "train"


def conf_dir() -> Path:
    """The directory of lx's own configuration: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside_wheel = package / "conf"
    return inside_wheel if inside_wheel.is_dir() else package.parent / "conf"


@contextmanager
def hydra_session(extra_dir: str | Path | None = None) -> Iterator[Hydra]:
    """A Hydra instance whose search path is: ``extra_dir``, ``./conf`` where the user stands, lx's own.

    Args:
        extra_dir: a directory of the user's config groups (``--config-dir``).

    Raises:
        LxError: ``extra_dir`` does not exist.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    search_path = create_config_search_path(str(conf_dir()))
    if extra_dir is not None:
        if not Path(extra_dir).is_dir():
            raise LxError(f"--config-dir {extra_dir}: no such directory")
        search_path.prepend("command-line", Path(extra_dir).resolve().as_uri(), "main")
    theirs = Path.cwd() / "conf"
    if theirs.is_dir() and theirs.resolve() != conf_dir():
        search_path.prepend("working-directory", theirs.as_uri(), "main")
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("lx", search_path)
    finally:
        GlobalHydra.instance().clear()
        if previous is not None:
            GlobalHydra.instance().initialize(previous)


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> DictConfig:
    """Compose a run's configuration, as ``lx train`` does from its command line.

    Args:
        overrides: Hydra overrides, for example ``["model=tiny", "optimizer.lr=1e-3"]``.
        config_dir: a directory of your own config groups, searched before lx's.

    Returns:
        The composed configuration, checked and without Hydra's own node.

    Raises:
        LxError: a key or group option that does not exist, a value of the wrong type, or settings that contradict
            each other.
    """
    with hydra_session(config_dir) as hydra:
        return compose_with(hydra, overrides)


def compose_with(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """Compose and check with a session that is open already; see :func:`compose`."""
    from lx.config.validate import check_config

    with readable_errors(hydra, overrides):
        cfg = _compose(hydra, overrides)
        defaults = _compose(hydra, _group_choices(hydra, overrides))
        check_config(cfg, defaults)
    return cfg


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, every interpolation replaced by its value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise LxError(f"{error.full_key} has no default: set {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise LxError(f"the configuration cannot be resolved: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


@contextmanager
def readable_errors(hydra: Hydra, overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about a user's overrides into one clear message."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (
        HydraException,
        OmegaConfBaseException,
        ValueError,
    ) as error:  # Hydra raises some bare ValueErrors
        raise LxError(_explain(error, hydra, overrides)) from error


def _compose(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    from hydra.types import RunMode
    from omegaconf import open_dict

    cfg = hydra.compose_config(CONFIG_NAME, list(overrides), RunMode.RUN, with_log_configuration=False)
    choices = cfg.hydra.runtime.choices
    with open_dict(cfg):
        if cfg.name is None:
            cfg.name = f"{choices['data']}-{choices['model']}"
        del cfg["hydra"]
    return cfg


def _group_choices(hydra: Hydra, overrides: Sequence[str]) -> list[str]:
    """Those overrides that choose a group's option (``model=tiny``) rather than set a value."""
    groups = set(hydra.config_loader.list_groups(""))
    names = [(override, override.lstrip("+~").partition("=")[0].partition("@")[0]) for override in overrides]
    return [override for override, name in names if name in groups or "/" in name]


def _explain(error: Exception, hydra: Hydra, overrides: Sequence[str]) -> str:
    text = str(error).strip()
    if option := re.search(r"Could not find '([\w/.\-]+)'", text):
        return _explain_option(option.group(1), hydra)
    cause = f"{text}\n{error.__cause__}"
    if (key := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", cause)) or (
        key := re.search(r"full_key: ([\w.]+)", cause)
    ):
        return _explain_key(key.group(1), hydra, overrides)
    first = text.splitlines()[0] if text else type(error).__name__
    return f"{first}\n  An override is written key=value; quote values with spaces or commas: 'key=\"a, b\"'."


def _explain_option(path: str, hydra: Hydra) -> str:
    group, _, option = path.rpartition("/")
    options = sorted(o for o in hydra.config_loader.get_group_options(group) if not o.startswith("_"))
    if not options:
        return f"no config group {group or path!r}{did_you_mean(group or path, hydra.config_loader.list_groups(''))}"
    return f"{group}={option}: no such option{did_you_mean(option, options)}; there are: {', '.join(options)}"


def _explain_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> str:
    groups = hydra.config_loader.list_groups("")
    try:
        known = list(_keys(_compose(hydra, _group_choices(hydra, overrides))))
    except Exception:  # a second fault in the same command line: the first is told without suggestions
        known = []
    hint = did_you_mean(key, [*known, *groups])
    parent = key.rpartition(".")[0]
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    where = f"; {parent or 'the top level'} has: {', '.join(beside)}" if beside else ""
    return f"there is no setting {key!r}{hint}{where}"


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig

    for name in map(str, node):
        key = f"{prefix}{name}"
        yield key
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _keys(child, f"{key}.")
