"""A trained classifier, rebuilt from its run directory alone and without trusting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lx.callbacks.checkpoint import load_weights
from lx.data.tokenizer import Tokenizer
from lx.errors import LxError
from lx.run import RunDirectory
from lx.targets import build, check_targets
from lx.tasks.task import Task


@dataclass(frozen=True)
class Trained:
    """The parts of a run that evaluation and prediction need.

    Attributes:
        run: where they were read.
        config: plain data.
        net: with the best weights, on the CPU, in evaluation mode.
        task: the loss and metrics.
        tokenizer: as trained.
        class_names: in label-id order.
        has_pairs: whether the texts come in pairs.
    """

    run: RunDirectory
    config: dict[str, Any]
    net: nn.Module
    task: Task
    tokenizer: Tokenizer
    class_names: list[str]
    has_pairs: bool

    @property
    def max_length(self) -> int:
        """Tokens kept of each example."""
        return int(self.config["data"]["max_length"])


def load_trained(run_dir: str | Path, trust: Sequence[str] = ()) -> Trained:
    """Rebuild a run's classifier.

    Only lx's own models and tasks are built from the run's configuration, and only tensors are loaded from its
    checkpoint: a directory from a stranger can run no code, read no other file and fetch nothing.

    Args:
        run_dir: the run directory.
        trust: packages of the user's own whose classes may be built as well.

    Raises:
        LxError: not a complete run, or one that was refused.
    """
    run = RunDirectory(Path(run_dir))
    config = run.read_config()
    check_targets(config, run.config, trust)
    class_names = run.read_labels()
    sizes = run.read_json(run.model)
    try:
        task: Task = build(config["task"], "task")(class_names=class_names, class_counts=sizes["class_counts"])
        net: nn.Module = build(_without_origin(config["model"], sizes), "model", **_from_data(sizes))
    except (KeyError, TypeError) as error:
        raise LxError(f"{run.model} does not describe the model of {run.config}: {error}") from error
    try:
        net.load_state_dict(load_weights(run))
    except RuntimeError as error:
        raise LxError(f"{run.best} does not fit the model of {run.config}: {str(error).splitlines()[0]}") from error
    tokenizer = Tokenizer.load(run.trusted(run.tokenizer))
    if tokenizer.vocab_size > sizes["vocab_size"]:
        raise LxError(f"{run.tokenizer} has more tokens than the model of {run.config} has embeddings")
    return Trained(run, config, net.eval(), task, tokenizer, class_names, sizes["num_token_types"] > 1)


def _without_origin(node: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The model's node without the files it was first filled from: the weights are all in the checkpoint."""
    origins: dict[str, Any] = {"vectors": None, "freeze_vectors": False, "config": sizes["architecture"]}
    return {**node, **{name: value for name, value in origins.items() if name in node}}


def _from_data(sizes: dict[str, Any]) -> dict[str, int]:
    return {name: int(sizes[name]) for name in ("vocab_size", "num_outputs", "num_token_types")}
