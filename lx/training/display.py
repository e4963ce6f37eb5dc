"""The tables that a run prints: what it is at its start, and what came out of it at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from rich.console import RenderableType
from rich.table import Table

from lx.config.auto import option_of
from lx.distributed.rank_info import RankInfo
from lx.kernels.swap import describe_arithmetic
from lx.nn.ensemble import members_of
from lx.report.next_commands import next_commands
from lx.report.tables import count, duration, pairs_table, result_table
from lx.run.directory import RunDirectory
from lx.run.result import Result
from lx.system.console import show
from lx.system.hardware import Hardware
from lx.system.output import say
from lx.training.builders import BuiltRun


def start_table(built: BuiltRun, hardware: Hardware, rank_info: RankInfo, reasons: Mapping[str, str]) -> Table:
    """Data, model, hardware and length of a run, and what the data has chosen, with the reasons."""
    cfg, data, run_length = built.cfg, built.data, built.run_length
    train, shared = data.tables["train"], data.corpus.report.shared
    duplicates = sum(number for pair, number in shared.items() if pair.startswith("train/"))
    parameters = sum(parameter.numel() for parameter in built.module.net.parameters())
    rank_share = -(-cfg.data.batch_size // rank_info.world_size)
    micro_batch = min(data.loaders.micro_batch or rank_share, rank_share)
    num_members = len(members_of(built.module.net))
    members = f"{num_members} x " if num_members > 1 else ""
    truncated = train.num_truncated / len(train)
    facts = {
        "data": data.source.describe("train"),
        "rows": ", ".join(f"{split} {len(table):,}" for split, table in data.tables.items()),
        "labels": data.corpus.report.labels,
        "truncated": f"{truncated:.1%} of the training texts, at {cfg.data.max_length:,} tokens",
        "duplicates": f"{duplicates:,} training texts stand in another split too",
        "model": f"{members}{cfg.model._target_.rpartition('.')[2]}, {parameters:,} parameters, "
        f"{data.tokenizer.vocab_size:,} pieces",
        "hardware": f"{hardware.name}, {describe_arithmetic(hardware.precision, built.module.net)}, "
        f"{rank_info.world_size} x {count(hardware.threads, 'thread')}",
        "batch": f"{cfg.data.batch_size:,} examples a step, {micro_batch:,} at a time",
        "steps": f"{count(run_length.num_epochs, 'epoch')} of {count(run_length.steps_per_epoch, 'step')}, "
        f"{run_length.total_steps:,} in total",
    }
    if data.expert is not None:
        fit = data.expert.facts
        facts["expert"] = f"linear, {fit['ngrams']:,} n-grams, C={fit['C']}, fitted in {duration(fit['seconds'])}"
    if not run_length.total_steps:  # the expert alone reads whole texts
        facts = {name: fact for name, fact in facts.items() if name not in ("truncated", "model", "batch", "steps")}
    return pairs_table(cfg.name, {**facts, **recipe_row(cfg, reasons)})


def recipe_row(cfg: DictConfig, reasons: Mapping[str, str]) -> dict[str, str]:
    """Return a row with the overrides that stand for what the data has chosen, by reason; no row if there are none."""
    overrides: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        value = OmegaConf.select(cfg, key)
        if OmegaConf.is_config(value):
            key, value = key.replace(".", "/"), option_of(key, value.get("_target_"))
        overrides.setdefault(reason, []).append(f"{key}={'null' if value is None else value}")
    lines = [f"{reason}: {' '.join(chosen)}" for reason, chosen in overrides.items()]
    return {"recipe": "\n".join(lines)} if lines else {}


def show_result(
    run: RunDirectory, result: Result, task_tables: Sequence[RenderableType], loggers: Sequence[Logger]
) -> None:
    """Print the metrics, the task's tables, and commands to go on with."""
    show(result_table(result.metrics, result.seconds), *task_tables)
    sync = next((command for logger in loggers if (command := getattr(logger, "sync_command", None))), None)
    for command in next_commands(run, sync):
        say(command)
