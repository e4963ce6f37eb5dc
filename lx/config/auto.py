"""Settings that may be the word ``auto``: a recipe says what they become."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lx.config.flatten import flatten
from lx.config.session import conf_dir
from lx.errors import LxError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

AUTO = "auto"

AUTO_VALUES: dict[str, type] = {
    "data.batch_size": int,
    "data.max_length": int,
    "data.validation_fraction": float,
    "trainer.max_epochs": int,
    "optimizer.lr": float,
    "tokenizer.vocab_size": int,
    "model.num_members": int,
    "model.dim": int,
    "model.num_layers": int,
    "model.num_heads": int,
    "model.conv_width": int,
    "model.compare_pairs": bool,
    "model.dropout": float,
    "model.embedding_dropout": float,
    "model.head_dropout": float,
    "model.token_dropout": float,
    "model.adversarial": float,
    "model.embedding_std": float,
}
"""Settings with one value, and its type."""

FOLLOWING = {"model.position.max_length": "data.max_length"}
"""Settings that say ``${another}``: a run's configuration is resolved, and says ``auto`` for both."""

AUTO_NODES = ("tokenizer", "model.position", "model.pooling", "model.expert")
"""Groups of which an option is chosen; in them ``_target_`` is ``auto``."""


def is_auto(cfg: DictConfig, key: str) -> bool:
    """Whether a setting of either kind is left to the recipe; False if the configuration has no such setting."""
    from omegaconf import OmegaConf

    if key in AUTO_NODES:
        key = f"{key}._target_"
    return bool(OmegaConf.select(cfg, key, default=None) == AUTO)


def auto_keys(cfg: DictConfig) -> list[str]:
    """Return the settings that are left to the recipe."""
    return [key for key in (*AUTO_VALUES, *AUTO_NODES) if is_auto(cfg, key)]


def fill(cfg: DictConfig, key: str, value: Any) -> None:
    """Put a value, or for a group the option of that name, in the place of ``auto``.

    Of a group, settings that were given are kept; those that are ``auto`` become the option's own.

    Raises:
        LxError: a setting was given that the option does not have.
    """
    from omegaconf import OmegaConf

    if key in AUTO_NODES:
        given = {name: setting for name, setting in OmegaConf.select(cfg, key).items() if setting != AUTO}
        option = OmegaConf.load(conf_dir() / key.replace(".", "/") / f"{value}.yaml")
        if unknown := next((name for name in given if name not in option), None):
            raise LxError(f"{key}.{unknown}: {key}=auto has become {value}, which has no such setting: choose another")
        value = OmegaConf.merge(option, given)
    OmegaConf.update(cfg, key, value, merge=False)
    for follower, followed in FOLLOWING.items():
        if followed == key and is_auto(cfg, follower):
            OmegaConf.update(cfg, follower, value)


def option_of(key: str, target: str | None) -> str:
    """Return the name of the option of a group in ``AUTO_NODES`` that builds a target; of a user's own, the target."""
    from omegaconf import OmegaConf

    files = sorted((conf_dir() / key.replace(".", "/")).glob("*.yaml"))
    return next(
        (file.stem for file in files if OmegaConf.select(OmegaConf.load(file), "_target_") == target), str(target)
    )


def without_auto(cfg: DictConfig) -> DictConfig:
    """Return a configuration whose settings have values, for checks: those of ``recipe=plain`` instead of ``auto``."""
    if not auto_keys(cfg):
        return cfg
    filled = deepcopy(cfg)
    apply_recipe(filled, plain_recipe())
    return filled


def plain_recipe() -> DictConfig:
    """Return what ``recipe=plain`` says."""
    from omegaconf import DictConfig, OmegaConf

    recipe = OmegaConf.load(conf_dir() / "recipe" / "plain.yaml")
    assert isinstance(recipe, DictConfig)
    return recipe


def apply_recipe(cfg: DictConfig, recipe: Mapping[Any, Any]) -> None:
    """Fill in what a node ``recipe`` says whatever the data; the rest stays ``auto``.

    Raises:
        LxError: the recipe names a setting that cannot be ``auto``.
    """
    from omegaconf import OmegaConf

    values = OmegaConf.to_object(OmegaConf.create(dict(recipe)))
    assert isinstance(values, dict)
    for key, value in flatten({str(name): value for name, value in values.items()}).items():
        if key not in (known := [*AUTO_VALUES, *AUTO_NODES]):
            raise LxError(f"recipe.{key}: {key} cannot be left to a recipe{did_you_mean(key, known)}")
        if is_auto(cfg, key):
            fill(cfg, key, value)
