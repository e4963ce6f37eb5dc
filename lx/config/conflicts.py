"""Refuse settings that would be silently overridden by others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lx.config.flatten import flatten
from lx.config.session import CONFIG_NAME, USER
from lx.errors import LxError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

# Where the first of two settings is given, nothing reads the second.
_ALTERNATIVES = {
    "trainer.max_steps": "trainer.max_epochs",
    "trainer.val_check_interval": "trainer.check_val_every_n_epoch",
}


def check_sources(hydra: Hydra, overrides: Sequence[str], cfg: DictConfig) -> None:
    """Check the command line against the composed configuration, and the settings of each of the user's files.

    Raises:
        LxError: two settings of which one overrides the other, or a file outside of ``hardware/`` that sets
            ``hardware``, which is composed last and would override it.
    """
    from omegaconf import OmegaConf

    typed = {override.lstrip("+~").partition("=")[::2] for override in overrides}
    keys = {key for key, value in typed if value.lower() != "null"}
    for first, second in _ALTERNATIVES.items():
        if second in keys and (value := OmegaConf.select(cfg, first)) is not None:
            raise LxError(
                f"{second} has no effect beside {first}={value}: give one of the two; where a file sets {first}, add "
                f"{first}=null"
            )
    if any(source.provider == USER for source in hydra.config_loader.get_sources()):
        for default in files_of(hydra, overrides):
            check_file(hydra, *default)


def files_of(hydra: Hydra, overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Return the files that a configuration is composed of, except ``train.yaml`` and Hydra's own.

    Each is given by its path, such as ``experiment/mine``, and the key under which its content is placed.
    """
    from hydra.types import RunMode

    defaults = hydra.config_loader.compute_defaults_list(CONFIG_NAME, list(overrides), RunMode.RUN).defaults
    paths = [(str(default.config_path), default.package or "") for default in defaults if not default.primary]
    return [(path, package) for path, package in paths if not path.startswith("hydra/")]


def check_file(hydra: Hydra, path: str, package: str) -> None:
    """Raise LxError if a file of :func:`files_of` sets hardware, or two settings of which one has no effect."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.default_element import GroupDefault
    from omegaconf import OmegaConf

    assert isinstance(hydra.config_loader, ConfigLoaderImpl)
    content = hydra.config_loader.repository.load_config(path)
    if content is None:
        return
    group, _, option = path.rpartition("/")
    values = OmegaConf.to_container(content.config)
    assert isinstance(values, dict)  # anything else cannot be composed
    settings = flatten({str(key): value for key, value in values.items()}, f"{package}." if package else "")
    choices = [str(item.group).lstrip("/") for item in content.defaults_list or [] if isinstance(item, GroupDefault)]
    on_hardware = [key for key in [*settings, *choices] if key.split(".")[0] == "hardware"]
    if on_hardware and group.split("/")[0] != "hardware":
        raise hardware_refusal(path, on_hardware[0])
    for first, second in _ALTERNATIVES.items():
        if settings.get(first) is not None and settings.get(second) is not None:
            raise LxError(f"{group}={option} sets {first} and {second}, which has no effect beside it: keep one")


def hardware_refusal(path: str, key: str) -> LxError:
    """Return the error for an option file, such as ``experiment/mine``, that sets or chooses hardware by ``key``."""
    group, _, option = path.rpartition("/")
    return LxError(
        f"{group}={option} sets {key}, but only the command line and the files of hardware/ do, so that an experiment "
        "runs on any machine: choose it on the command line, or make an option of hardware"
    )
