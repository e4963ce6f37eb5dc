"""From config nodes to the parts of a run that every verb needs: data, task, network, module."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lx.config.instantiate import argument_keys, build, build_network
from lx.config.objective import checkpoint_metric
from lx.config.schema import DataSettings
from lx.data.datamodule import TextDataModule
from lx.data.expert import ExpertTarget
from lx.data.plan import LoaderOptions
from lx.data.sources.base import Source
from lx.data.sources.build import build_source
from lx.data.tokens.tokenizer import Tokenizer
from lx.distributed.process_group import first_on_each_node
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError, did_you_mean
from lx.kernels.swap import swap_in_kernels
from lx.linear.settings import ExpertSettings
from lx.nn.embedding import FIRST_WORD
from lx.nn.ensemble import members_of
from lx.nn.expert_alone import ExpertAlone
from lx.nn.vectors import load_word_vectors
from lx.optim.groups import parameter_groups
from lx.system.hardware import Hardware
from lx.tasks.base import Task, encoder_factory, takes_expert
from lx.training.adversarial import AdversarialEmbeddings
from lx.training.compilation import compile_for_all_lengths, pays_to_compile
from lx.training.module import TextClassifier
from lx.training.nonfinite import NonFiniteGuard
from lx.training.own_network import check_network
from lx.training.recipe import resolve
from lx.training.run_length import RunLength, validation_interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltRun:
    """What a configuration describes, built: data that is ready to be read, and the module to train on it.

    Attributes:
        cfg: the configuration, nothing in it `auto` that a recipe chooses.
        reasons: of the values that the data has chosen, by key.
        expert: of an expert that :meth:`fit_expert` fits; None: there is none.
    """

    cfg: DictConfig
    reasons: dict[str, str]
    data: TextDataModule
    module: TextClassifier
    run_length: RunLength
    expert: ExpertSettings | None

    def fit_expert(self, rank_info: RankInfo) -> None:
        """Fit the expert on the data, if there is to be one, or read it from the cache."""
        task = self.module.task
        if self.expert is not None and takes_expert(task):
            target = ExpertTarget(task.expert_kind, task.num_outputs, task.expert_labels)
            fit = partial(self.data.fit_expert, self.expert, target)
            first_on_each_node(rank_info, fit)


def build_run(cfg: DictConfig, hardware: Hardware, rank_info: RankInfo | None = None) -> BuiltRun:
    """Build data, task, network and module, each from its own config node.

    Args:
        cfg: the composed configuration.
        hardware: where the network will compute; kernels are put into it where there are any.
        rank_info: of this process among the ranks; None: it is the only one.

    Raises:
        LxError: the data or a setting is refused.
    """
    rank_info = rank_info or RankInfo()
    source, label_encoder = build_source(cfg.data), encoder_factory(build(cfg.task, "task"))
    unresolved = cfg
    cfg, reasons = first_on_each_node(rank_info, lambda: resolve(unresolved, source, label_encoder))
    data = build_data(cfg, hardware, rank_info, source)
    first_on_each_node(rank_info, data.prepare_data)
    data.setup()
    task = build_task(cfg, data)
    expert = build_expert(cfg, task) if cfg.model.get("expert") else None
    run_length = build_run_length(cfg, data.steps_per_epoch)
    net = build_net(cfg, data, task, hardware, run_length.total_steps)
    if isinstance(net, ExpertAlone):
        run_length = replace(run_length, total_steps=0)
    module = build_module(cfg, net, task, run_length.total_steps)
    if run_length.total_steps:
        module.configure_optimizers()  # refuses bad settings of optimizer and schedule here, before training
    return BuiltRun(cfg, reasons, data, module, run_length, expert)


def build_data(cfg: DictConfig, hardware: Hardware, rank_info: RankInfo, source: Source) -> TextDataModule:
    """The data module of a source, of ``cfg.data`` and ``cfg.tokenizer``; nothing is read."""
    pad_multiple = cfg.hardware.get("pad_multiple", "auto")  # older runs have none
    flat = {name: cfg.data[name] for name in DataSettings.__dataclass_fields__}
    loaders = LoaderOptions(
        seed=cfg.seed,
        micro_batch=None if cfg.hardware.micro_batch == "auto" else cfg.hardware.micro_batch,
        num_workers=cfg.hardware.num_workers,
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        limit_train_batches=cfg.trainer.limit_train_batches,
        limit_eval_batches=cfg.trainer.limit_eval_batches,
        pad_multiple=hardware.pad_multiple if pad_multiple == "auto" else pad_multiple,
        pin_memory=hardware.device.type == "cuda",
    )
    label_encoder = encoder_factory(build(cfg.task, "task"))
    return TextDataModule(source, build(cfg.tokenizer, "tokenizer"), label_encoder, DataSettings(**flat), loaders)


def build_task(cfg: DictConfig, data: TextDataModule) -> Task:
    """Build the task of ``cfg.task`` for the labels of the data, whose batches it collates from now on."""
    task: Task = build(cfg.task, "task")(**data.corpus.label_set)
    data.collate_labels = task.collate
    return task


def build_expert(cfg: DictConfig, task: Task) -> ExpertSettings:
    """The settings of ``cfg.model.expert``, for a task that can have an expert."""
    if not takes_expert(task):
        raise LxError(
            f"a linear expert learns a class, labels or a number, and {type(task).__name__} does not say which "
            "(expert_kind in lx/tasks/base.py): choose model/expert=none, and another model than model=linear"
        )
    with argument_keys("model.expert"):
        settings: ExpertSettings = build(cfg.model.expert, "model.expert")
    return settings


def build_net(cfg: DictConfig, data: TextDataModule, task: Task, hardware: Hardware, total_steps: int) -> nn.Module:
    """The network of ``cfg.model`` for the hardware, its word embeddings filled from a file if one is named."""
    net: nn.Module = build_network(
        cfg.model,
        vocab_size=data.tokenizer.vocab_size,
        num_outputs=task.num_outputs,
        num_token_types=data.num_token_types,
    )
    members = members_of(net)
    for member in members:
        check_network(member, task.num_outputs, data.has_pairs)
    longest = getattr(members[0], "max_length", None)
    if longest is not None and cfg.data.max_length > longest:
        raise LxError(f"data.max_length={cfg.data.max_length} goes beyond the {longest} positions of {cfg.model.path}")
    if path := cfg.model.get("vectors"):
        _fill_word_embeddings(members, path, data.tokenizer)
    is_requested = cfg.hardware.compile is True
    can_compile = not cfg.model.get("adversarial")  # a compiled network has no layer whose output could be moved
    if is_requested and not can_compile:
        log.warning("hardware.compile=true is left out: model.adversarial moves what a layer returns")
    if can_compile and (is_requested or (cfg.hardware.compile == "auto" and pays_to_compile(hardware, total_steps))):
        compile_for_all_lengths(net)
    else:
        swap_in_kernels(net, hardware.device, hardware.product_dtype)
    return net


def _fill_word_embeddings(members: Sequence[Any], path: str, tokenizer: Tokenizer) -> None:
    """Start the word embeddings of networks of one kind from a file of word vectors."""
    first, *others = members
    with argument_keys("model"):
        num_found = load_word_vectors(first.word_embedding, path, tokenizer.tokens(), first.vectors_width_argument)
    for member in others:
        member.word_embedding.load_state_dict(first.word_embedding.state_dict())
    num_tokens = tokenizer.vocab_size - FIRST_WORD
    share = 100 * num_found / max(1, num_tokens)
    log.info("word vectors from %s: %d of %d tokens found (%.1f%%)", path, num_found, num_tokens, share)


def build_run_length(cfg: DictConfig, steps_per_epoch: int) -> RunLength:
    """The length of the run in optimizer steps, from the settings of the trainer."""
    trainer = cfg.trainer
    return RunLength(
        steps_per_epoch=steps_per_epoch,
        total_steps=trainer.max_steps or trainer.max_epochs * steps_per_epoch,
        validation_interval=validation_interval(
            trainer.val_check_interval, trainer.check_val_every_n_epoch, steps_per_epoch
        ),
    )


def build_module(cfg: DictConfig, net: nn.Module, task: Task, total_steps: int) -> TextClassifier:
    """The LightningModule with the optimizer of ``cfg.optimizer`` and the schedule of ``cfg.scheduler``."""
    for key, metric in (("metric", cfg.objective.metric), ("checkpoint", checkpoint_metric(cfg.objective)[0])):
        _check_measured(f"objective.{key}", metric, task)

    def optimizer(net: nn.Module) -> Optimizer:
        groups = parameter_groups(net, cfg.optimizer.weight_decay)
        built: Optimizer = build(cfg.optimizer, "optimizer")(groups)
        return built

    def schedule(optimizer: Optimizer) -> LRScheduler:
        with argument_keys("scheduler"):
            built: LRScheduler = build(cfg.scheduler, "scheduler")(optimizer, total_steps=total_steps)
        return built

    guard = NonFiniteGuard(cfg.trainer.on_nan)
    strength = cfg.model.get("adversarial")  # older runs have no such setting
    adversarial = AdversarialEmbeddings(net, strength) if strength else None
    return TextClassifier(net, task, optimizer, schedule, cfg.trainer.gradient_clip_val, guard, cfg.seed, adversarial)


def _check_measured(key: str, metric: str, task: Task) -> None:
    """Refuse a metric that validation does not measure, before training."""
    known = sorted(f"val/{name}" for name in task.metric_names)
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise LxError(f"{key}={metric} is not measured{hint}; there are: {', '.join(known)}")
