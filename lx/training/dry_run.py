"""What ``lx check`` does: everything that training does up to its first update."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from omegaconf import DictConfig
from rich.table import Table

from lx.config.instantiate import build
from lx.data.batches import GlobalBatch
from lx.data.datamodule import TextDataModule
from lx.report.tables import pairs_table
from lx.run.directory import RunDirectory
from lx.system.console import show
from lx.system.hardware import Hardware, num_devices, rendezvous_endpoint, resolve
from lx.system.logging import log_to
from lx.system.output import say
from lx.tracking.loggers import check_loggers
from lx.training.builders import build_run
from lx.training.display import recipe_row
from lx.training.module import TextClassifier
from lx.training.seeding import seed_process


def dry_run(cfg: DictConfig) -> None:
    """Read the data, build the model and run the forward and backward pass of one step; keep nothing.

    Prints classes, lengths, truncation, duplicates, parameters and what one batch costs.

    Raises:
        LxError: what training would have refused.
    """
    if cfg.run_dir is not None and not cfg.resume:
        RunDirectory(Path(cfg.run_dir)).require_free()
    check_loggers(cfg.logger)
    if cfg.launch == "process" and "submit" not in cfg.hardware:
        num_devices(cfg.hardware)
        rendezvous_endpoint(cfg.hardware)
    for name, node in cfg.callbacks.items():
        if node is not None:
            build(node, f"callbacks.{name}")
    seed_process(cfg.seed)
    hardware = resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)
    with TemporaryDirectory(prefix="lx-check-") as scratch, log_to(Path(scratch) / "log.txt"):
        if cfg.hardware.compile == "auto":
            cfg.hardware.compile = False  # it would take half a minute for one step
        built = build_run(cfg, hardware)
        cfg, data, module, run_length = built.cfg, built.data, built.module, built.run_length
        classes = data.corpus.report.class_table()
        show(data.corpus.report, *([] if classes is None else [classes]), _lengths(data))
        for warning in data.corpus.report.warnings():
            say(f"note: {warning}")
        if run_length.total_steps:
            batch = next(iter(data.train_dataloader()))
            loss, seconds = _one_step(module, batch, hardware)
            facts = {
                "parameters": f"{sum(parameter.numel() for parameter in module.net.parameters()):,}",
                "vocabulary": f"{data.tokenizer.vocab_size:,}",
                "hardware": f"{hardware.name}, {hardware.precision}",
                "steps": f"{run_length.steps_per_epoch:,} an epoch, {run_length.total_steps:,} in all",
                "padding": f"{data.train_padding_share():.1%} of the tokens of an epoch",
                "one batch": f"{batch.num_examples} examples, {batch.num_tokens:,} tokens, {seconds:.2f} s",
                **recipe_row(cfg, built.reasons),
                "loss": f"{loss:.4f} (a guess costs {module.task.chance_loss:.4f})",
            }
            show(pairs_table("model", facts))
    say("all good: start with lx train and the same overrides")


def _lengths(data: TextDataModule) -> Table:
    table = Table("split", title="tokens of an example", title_justify="left")
    percentiles = (5, 50, 95, 100)
    for heading in ("5%", "median", "95%", "longest", "truncated"):
        table.add_column(heading, justify="right")
    for name, tokens in data.tables.items():
        marks = np.percentile(tokens.lengths, percentiles)
        table.add_row(name, *(f"{mark:.0f}" for mark in marks), f"{tokens.num_truncated / len(tokens):.1%}")
    return table


def _one_step(module: TextClassifier, batch: GlobalBatch, hardware: Hardware) -> tuple[float, float]:
    """Loss of a batch, and the seconds that its forward and backward pass take."""
    module = module.to(hardware.device)
    started = time.perf_counter()
    total = 0.0
    for micro_batch in batch.to(hardware.device).micro_batches:
        with hardware.autocast():
            loss = module.losses(micro_batch)[0].sum() / batch.num_examples
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total, time.perf_counter() - started
