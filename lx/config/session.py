"""Hydra with lx's own configuration first on its search path, and a user's folder behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lx.config.grammar import parse
from lx.config.objective import follow_metric
from lx.errors import LxError
from lx.system.gc import gc_paused

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

CONFIG_NAME = "train"
USER = "user"  # the name of the user's folder among Hydra's sources


def conf_dir() -> Path:
    """Return the directory of lx's own configuration: in an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside_wheel = package / "conf"
    return inside_wheel if inside_wheel.is_dir() else package.parent / "conf"


@contextmanager
def hydra_session(config_dir: str | Path | None = None) -> Iterator[Hydra]:
    """Open Hydra with lx's own configuration first on the search path and a user's folder behind it.

    Args:
        config_dir: the user's folder (``--config-dir``); None: the one that ``LX_CONFIG_DIR`` names, if it is set.

    Raises:
        LxError: the folder does not exist, or holds a file that lx has, too, and which would never be read.
    """
    folder = _user_folder(config_dir)
    with gc_paused():  # what is imported and made here stays
        from hydra.core.global_hydra import GlobalHydra

        previous = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        hydra = _own_hydra() if folder is None else _create_hydra(folder)
    try:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:
        GlobalHydra.instance().clear()
        if previous is not None:
            GlobalHydra.instance().initialize(previous)


def _create_hydra(user_folder: Path | None = None) -> Hydra:
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery

    search_path = create_config_search_path(str(conf_dir()))
    if user_folder is not None:
        search_path.append(USER, user_folder.as_uri(), anchor=SearchPathQuery("main", None))
    return Hydra.create_main_hydra2("lx", search_path)


@lru_cache(maxsize=1)
def _own_hydra() -> Hydra:
    """Return one for all sessions of this process, with which their compositions are kept."""
    return _create_hydra()


def compose_unchecked(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """Compose, name the run after its data and model, settle the objective's mode, and drop Hydra's own node."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.types import RunMode
    from omegaconf import open_dict

    choices = group_choices(hydra, overrides)
    values = parse([override for override in overrides if override not in choices])
    ConfigLoaderImpl.validate_sweep_overrides_legal(values, RunMode.RUN, from_shell=True)
    cfg = deepcopy(compose_choices(hydra, tuple(choices)))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    options = cfg.hydra.runtime.choices
    with open_dict(cfg):
        if "name" in cfg and cfg.name is None:
            cfg.name = f"{options.get('data')}-{options.get('model')}"
        del cfg["hydra"]
    follow_metric(cfg)
    return cfg


def compose_sweep(hydra: Hydra, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the node ``sweep`` from the overrides that are about it, unchecked."""
    from hydra.types import RunMode

    cfg = hydra.compose_config("sweep", list(overrides), RunMode.RUN, with_log_configuration=False)
    node: DictConfig = cfg.sweep
    return node


@lru_cache(maxsize=32)
def compose_choices(hydra: Hydra, choices: tuple[str, ...]) -> DictConfig:
    """Compose the chosen options of groups, Hydra's own node included; copy the result before you change it.

    This takes nearly all the time of a composition, and is the same for all trials of a sweep.
    """
    from hydra.types import RunMode

    with gc_paused():  # a tree of many small objects, and no cycle to find
        return hydra.compose_config(CONFIG_NAME, list(choices), RunMode.RUN, with_log_configuration=False)


def group_choices(hydra: Hydra, overrides: Sequence[str]) -> list[str]:
    """Return those overrides that choose a group's option (``model=tiny``) rather than set a value."""
    groups = _groups(hydra) if overrides else frozenset()
    return [override for override in overrides if _is_choice(override, groups)]


@lru_cache(maxsize=1)
def _groups(hydra: Hydra) -> frozenset[str]:
    return frozenset(hydra.config_loader.list_groups(""))


def _is_choice(override: str, groups: frozenset[str]) -> bool:
    key, _, value = override.lstrip("+~").partition("=")
    name = key.partition("@")[0]
    return (name in groups and not value.startswith("{")) or "/" in name


def _user_folder(config_dir: str | Path | None) -> Path | None:
    """Return the user's config folder as an absolute path, if there is one."""
    if config_dir is not None:
        origin, folder = "--config-dir ", config_dir
    elif from_environment := os.environ.get("LX_CONFIG_DIR"):
        origin, folder = "LX_CONFIG_DIR=", from_environment
    else:
        return None
    if folder == "":
        raise LxError("--config-dir is empty: name a directory, or leave it out. Is a variable of the shell not set?")
    path = Path(folder).resolve()
    if not path.is_dir():
        raise LxError(f"{origin}{folder}: no such directory")
    if path == conf_dir():
        return None
    for file in sorted(path.rglob("*.yaml")):
        name = file.relative_to(path)
        if (conf_dir() / name).is_file():
            raise LxError(
                f"{Path(folder) / name} would never be read, because lx has a {name} of its own, which comes first: "
                f"give yours another name; beginning it with the line 'defaults: [{name.stem}, _self_]' makes it take "
                "over what lx's says"
            )
    return path
