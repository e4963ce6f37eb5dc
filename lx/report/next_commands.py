"""The commands that a run prints at its end: ready to paste, and only those that can succeed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from lx.config.instantiate import packages_to_trust
from lx.run.directory import RunDirectory

_LARGER = {"linear": "small", "bag": "small", "tiny": "small", "small": "base", "base": "large"}
_OF_THIS_RUN = ("run_dir", "name", "resume", "launch", "debug", "model")


def next_commands(run: RunDirectory, sync_command: str | None = None) -> list[str]:
    """Return commands to go on with.

    Args:
        run: that has ended.
        sync_command: uploads a tracked run that was recorded offline; None: a larger model comes in its place.
    """
    config, environment = run.read_config(), run.read_json(run.environment)
    trust = [word for name in packages_to_trust(config, ("model", "task")) for word in ("--trust", name)]
    pair = ["--pair", "its pair"] if run.read_sizes().get("has_pairs") else []
    predict = shlex.join(["lx", "predict", str(run.path), *trust])
    texts = " ".join(f'"{word}"' if " " in word else word for word in ("--text", "your text", *pair))
    commands = [f"{predict} {texts}"]
    if run.test.exists():
        commands.append(shlex.join(["lx", "eval", str(run.path), *trust]))
    larger = sync_command or _larger_model(config, environment.get("overrides", ()), environment.get("config_dir"))
    return [*commands, larger] if larger else commands


def _larger_model(config: dict[str, Any], overrides: Sequence[str], config_dir: str | None) -> str | None:
    """Return the command that trains a larger model on the same data; None if it is not known how to repeat it."""
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    kept = [
        word for word, key in zip(overrides, keys, strict=True) if key.split(".")[0].split("/")[0] not in _OF_THIS_RUN
    ]
    chosen = next((word.partition("=")[2] for word in reversed(overrides) if word.startswith("model=")), "small")
    is_default = str(config["data"]["source"]["_target_"]).endswith(".DocstringSource")
    names_data = any(key == "data" or key.startswith("data.") for key in keys)
    if chosen not in _LARGER or "experiment" in keys or not (is_default or names_data):
        return None
    folder = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["lx", "train", *folder, *kept, f"model={_LARGER[chosen]}"])
