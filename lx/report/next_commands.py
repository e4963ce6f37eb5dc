"""The commands that a run prints at its end: ready to paste, and only those that can succeed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lx.config.grammar import as_grammar, parse
from lx.config.instantiate import packages_to_trust
from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.system.files import as_argument

_LARGER = {"bag": "small", "tiny": "small", "small": "base", "base": "large"}
_OF_THIS_RUN = ("run_dir", "name", "resume", "launch", "debug")


def next_commands(run: RunDirectory, sync_command: str | None = None) -> list[str]:
    """Return commands to go on with.

    Args:
        run: that has ended.
        sync_command: uploads a run that was recorded offline, and takes the place of the next experiment; None: none.
    """
    config, environment = run.read_config(), run.read_json(run.environment)
    trust = [word for name in packages_to_trust(config, ("model", "task")) for word in ("--trust", name)]
    pair = ["--pair", "its pair"] if run.read_sizes().get("has_pairs") else []
    predict = shlex.join(["lx", "predict", as_argument(run.path), *trust])
    texts = " ".join(f'"{word}"' if " " in word else word for word in ("--text", "your text", *pair))
    commands = [f"{predict} {texts}"]
    if run.test.exists():
        commands.append(shlex.join(["lx", "eval", as_argument(run.path), *trust]))
    commands += report_command(run.path)
    further = sync_command or _next_training(config, environment.get("overrides", ()), environment.get("config_dir"))
    return [*commands, further] if further else commands


def report_command(path: Path) -> list[str]:
    """Return the command that draws a run or a sweep; none without matplotlib."""
    return [shlex.join(["lx", "report", as_argument(path)])] if find_spec("matplotlib") else []


def _next_training(config: dict[str, Any], overrides: Sequence[str], config_dir: str | None) -> str | None:
    """Return the command of a next experiment on the same data; None if the overrides do not name that data.

    It trains a larger model, or after ``model=linear`` the encoder beside the expert. If the data or a file chose the
    model, or there is no larger one, it trains the same with three seeds, for a mean and its spread.
    """
    key_of = {word: word.lstrip("+~").partition("=")[0] for word in overrides}
    is_default = str(config["data"]["source"]["_target_"]).endswith(".DocstringSource")
    names_data = any(key in ("data", "experiment") or key.startswith("data.") for key in key_of.values())
    if not (is_default or names_data):
        return None
    key_of = {word: key for word, key in key_of.items() if key.split(".")[0] not in _OF_THIS_RUN}
    model = next((word.partition("=")[2] for word, key in reversed(key_of.items()) if key == "model"), "auto")
    if model == "auto" and "recipe=plain" in key_of and "experiment" not in key_of.values():
        model = "small"
    if model == "linear" or model in _LARGER:
        larger = [f"model={_LARGER[model]}"] if model in _LARGER else []
        words = [*(word for word, key in key_of.items() if re.split("[./]", key)[0] != "model"), *larger]
    else:
        words = ["-m", *(word for word, key in key_of.items() if key != "seed"), "sweep.seeds=3"]
        if config["hardware"]["num_nodes"] > 1 or not _means_the_same(words[1:]):
            return None
    folder = ["--config-dir", as_argument(Path(config_dir))] if config_dir else []
    return shlex.join(["lx", "train", *folder, *words])


def _means_the_same(overrides: Sequence[str]) -> bool:
    """Return whether each override has one value in a sweep too, where a comma separates values."""
    try:
        return not any(override.is_sweep_override() for override in parse(as_grammar(overrides, several=True)))
    except LxError:  # a text with a comma
        return False
