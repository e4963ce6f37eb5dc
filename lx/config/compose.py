"""Compose a configuration from ``conf/``, a user's folder and overrides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config.auto import apply_recipe
from lx.config.conflicts import check_sources
from lx.config.grammar import as_grammar, with_files
from lx.config.messages import plain_errors
from lx.config.session import compose_unchecked, group_choices, hydra_session
from lx.errors import LxError, first_line, require_list

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> DictConfig:
    """Compose and check a run's configuration, as ``lx train`` does from its command line; Hydra's node is left out.

    Args:
        overrides: Hydra overrides, for example ``["model=tiny", "optimizer.lr=1e-3"]``.
        config_dir: a directory of your own config groups, which adds options to lx's; None: ``$LX_CONFIG_DIR``.

    Raises:
        LxError: a key or group option that does not exist, a value of the wrong type, or settings that contradict
            each other.
    """
    require_list("overrides", overrides)
    with hydra_session(config_dir) as hydra:
        return compose_with(hydra, [*overrides])


def compose_with(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """Compose and check with a session that is open already; see :func:`compose`."""
    from lx.config.validate import check_config  # not for a command that only shows the configuration

    overrides = with_files(as_grammar(overrides))
    with plain_errors(hydra, overrides):
        cfg = compose_unchecked(hydra, overrides)
        choices = group_choices(hydra, overrides)
        defaults = compose_unchecked(hydra, choices) if choices != list(overrides) else cfg
        apply_recipe(cfg, cfg.get("recipe") or {})
        check_config(cfg, defaults)
        check_sources(hydra, overrides, cfg)
    return cfg


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain containers, every interpolation replaced by its value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise LxError(f"{error.full_key} has no default: set {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise LxError(f"the configuration cannot be resolved: {first_line(error)}") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
