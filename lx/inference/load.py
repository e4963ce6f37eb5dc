"""Loads a finished run for evaluation and prediction, from its directory alone and without trusting it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from lx.config.instantiate import build, build_network, check_targets
from lx.data.tokens.tokenizer import Tokenizer
from lx.data.tokens.untrusted import load_untrusted
from lx.errors import LxError, first_line, shorten_text
from lx.inference.expert import read_expert
from lx.linear.expert import LinearExpert
from lx.nn.ensemble import members_of
from lx.nn.expert_alone import ExpertAlone
from lx.run.checkpoint import load_best
from lx.run.directory import RunDirectory
from lx.tasks.base import Task, takes_expert
from lx.training.own_network import call_once, has_own_layers

_MOST = 1 << 22  # a number in the settings of a model: sizes, tokens, positions
_MOST_COMPUTED = 4096
_MODULES_PER_WEIGHT = 10
_MOST_COPIES = 4  # of the checkpoint's bytes: tied weights, and half precision
_MOST_BUFFERS = 1 << 26  # bytes


@dataclass(frozen=True)
class LoadedRun:
    """The parts of a run that evaluation and prediction need.

    Attributes:
        directory: where they were read.
        config: plain data.
        net: with the best weights, on the CPU, in evaluation mode.
        task: the metrics and predictions, with what it chose on the validation split.
        tokenizer: as trained.
        has_pairs: whether the texts come in pairs.
        max_length: tokens kept of each example.
        expert: the linear expert beside the network, or instead of one; None: the run has no expert.
    """

    directory: RunDirectory
    config: dict[str, Any]
    net: nn.Module
    task: Task
    tokenizer: Tokenizer
    has_pairs: bool
    max_length: int
    expert: LinearExpert | None = None

    def require_pairs(self, are_pairs: bool) -> None:
        """Refuse pairs of texts for a run on single ones, and the other way round.

        Raises:
            LxError: says which of the two was trained.
        """
        if are_pairs != self.has_pairs:
            raise LxError(
                "this classifier labels pairs of texts: give the second text too"
                if self.has_pairs
                else "this classifier labels single texts, but a second text was given"
            )


def load_run(run_dir: str | Path, trust: Sequence[str] = ()) -> LoadedRun:
    """Rebuild the network, task and tokenizer of a run.

    Only lx's own models and tasks are built from the run's configuration, and only tensors are loaded from its
    checkpoint: a directory from a stranger can run no code, read no other file and fetch nothing.

    Args:
        run_dir: the run directory.
        trust: packages of the user's own whose classes may be built as well.

    Raises:
        LxError: not a complete run, or one that was refused.
    """
    run = RunDirectory(Path(run_dir))
    sizes = run.read_sizes()
    config = _without_origin(run.read_config(), sizes)
    check_targets(config, run.config, trust, nodes=("model", "task"))
    max_length = _check_settings(config, run.config)
    label_set = run.read_label_set()
    weights, choices = load_best(run)
    task = _load_task(run, config["task"], label_set, choices)
    if task.num_outputs != sizes["num_outputs"]:
        raise LxError(f"{run.model} and {run.labels} do not have the same number of classes")
    net = _load_net(run, config["model"], sizes, weights, is_trusted=bool(trust))
    tokenizer = load_untrusted(run.trusted(run.tokenizer))
    if tokenizer.largest_id >= sizes["vocab_size"]:
        raise LxError(f"{run.tokenizer} has more tokens than the model of {run.config} has embeddings")
    has_pairs = bool(sizes.get("has_pairs"))
    expert = _load_expert(run, task, has_pairs) if config["model"].get("expert") else None
    if expert is None and isinstance(net, ExpertAlone):
        raise LxError(f"{run.config} has neither a network nor an expert")
    return LoadedRun(run, config, net.eval(), task, tokenizer, has_pairs, max_length, expert)


def _load_task(run: RunDirectory, node: Any, label_set: dict[str, Any], choices: dict[str, Any]) -> Task:
    try:
        task: Task = build(node, "task")(**label_set)
    except Exception as error:  # a stranger's settings can raise any
        reason = shorten_text(first_line(error), 300)
        raise LxError(f"{run.model}, {run.labels} and the task of {run.config} do not fit: {reason}") from error
    try:
        task.choices = choices
    except Exception as error:  # of a user's own task, any
        reason = shorten_text(first_line(error), 300)
        raise LxError(f"{run.best} does not fit the task of {run.config}: {reason}") from error
    return task


def _load_net(
    run: RunDirectory, node: dict[str, Any], sizes: dict[str, Any], weights: dict[str, Tensor], *, is_trusted: bool
) -> nn.Module:
    try:
        if not is_trusted:
            _check_shapes(node, sizes, weights, run.best.stat().st_size)
        net = _build_net(node, sizes)
        if is_trusted:
            _build_own_layers(net, bool(sizes.get("has_pairs")))
        net.load_state_dict(weights)
    except LxError:
        raise
    except Exception as error:  # a stranger's settings can raise any
        reason = shorten_text(first_line(error), 300)
        raise LxError(f"{run.best} and {run.model} do not fit the model and task of {run.config}: {reason}") from error
    return net


def _load_expert(run: RunDirectory, task: Task, has_pairs: bool) -> LinearExpert:
    expert = read_expert(run.trusted(run.linear))
    found = expert.kind, expert.num_outputs, expert.texts_per_row
    if not takes_expert(task) or found != (task.expert_kind, task.num_outputs, 1 + has_pairs):
        raise LxError(f"{run.linear} does not fit {run.model} and the task of {run.config}")
    return expert


def _without_origin(config: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """Remove the files that the model's initial weights came from: all weights are in the checkpoint."""
    node = config.get("model")
    if not isinstance(node, dict):
        return config
    origins: dict[str, Any] = {"vectors": None, "freeze_vectors": False, "config": sizes.get("architecture") or {}}
    return {**config, "model": {**node, **{name: value for name, value in origins.items() if name in node}}}


def _check_settings(config: dict[str, Any], path: Path) -> int:
    """Check the settings that are read directly, not built into objects; return ``data.max_length``."""
    data, hardware = config.get("data"), config.get("hardware")
    max_length = data.get("max_length") if isinstance(data, dict) else None
    if not isinstance(max_length, int) or not 4 <= max_length < 2**31:
        raise LxError(f"{path}: data.max_length must be a whole number of at least 4, not {max_length!r}")
    if not isinstance(hardware, dict) or not isinstance(hardware.get("precision"), str):
        raise LxError(f"{path} does not say hardware.precision")
    return max_length


def _build_net(node: dict[str, Any], sizes: dict[str, Any]) -> nn.Module:
    from_data = {name: sizes[name] for name in ("vocab_size", "num_outputs", "num_token_types")}
    net: nn.Module = build_network(node, **from_data)
    return net


def _build_own_layers(net: nn.Module, has_pairs: bool) -> None:
    """Have a user's own networks build the layers that they build in their first call, as they did before training."""
    for member in filter(has_own_layers, members_of(net)):
        with suppress(Exception):  # they may need another device, as in training
            call_once(member, has_pairs)


def _check_shapes(node: dict[str, Any], sizes: dict[str, Any], weights: dict[str, Tensor], num_bytes: int) -> None:
    """Refuse a model of other shapes than the weights, or of more memory than their file, before its memory is taken.

    Raises:
        RuntimeError: as ``load_state_dict`` does.
    """
    _check_numbers({name: value for name, value in node.items() if name != "expert"})
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > _MOST_COPIES * num_bytes:
        raise RuntimeError("the weights are larger than their file")
    with torch.device("meta"), _at_most_modules(_MODULES_PER_WEIGHT * (len(weights) + 50)):
        net = _build_net(node, sizes)
    num_buffer_bytes = sum(buffer.numel() * buffer.element_size() for buffer in net.buffers())
    if num_buffer_bytes > _MOST_COPIES * num_bytes + _MOST_BUFFERS:
        raise RuntimeError("its buffers are far larger than the weights")
    net.load_state_dict(weights, assign=True)


def _check_numbers(node: object) -> None:
    """Refuse numbers with which building a model would take too long, before its first layer is built."""
    if isinstance(node, int) and abs(node) > _MOST:
        raise RuntimeError(f"the model's settings hold the number {shorten_text(str(node))}, which is beyond {_MOST:,}")
    if isinstance(node, dict) and _is_computed(node):
        raise RuntimeError(f"more than {_MOST_COMPUTED:,} positions or dimensions would be computed one by one")
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            _check_numbers(child)


def _is_computed(node: dict[str, Any]) -> bool:
    """Return whether transformers would compute a large table of positions number by number, in Python."""
    large = any(node.get(key, 0) > _MOST_COMPUTED for key in ("max_position_embeddings", "dim", "emb_dim"))
    return large and any(str(key).startswith("sinusoidal") and value for key, value in node.items())


@contextmanager
def _at_most_modules(count: int) -> Iterator[None]:
    """Raise RuntimeError as soon as the block has built more than ``count`` modules."""
    built = 0

    def check(*_: object) -> None:
        nonlocal built
        built += 1
        if built > count:
            raise RuntimeError("the model has more layers than its weights are for")

    handle = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()
