"""Trains one run in its directory: ``python -m lx.worker RUN``. Read :func:`_train` from top to bottom."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lx.system.gc import freeze_after_imports

with freeze_after_imports(__name__ == "__main__"):
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.loggers import Logger
    from omegaconf import DictConfig, OmegaConf
    from torch import nn

    from lx.data.datamodule import TextDataModule
    from lx.distributed.fsdp import load_whole_weights
    from lx.distributed.process_group import Place, barrier, first_on_each_node, joined
    from lx.errors import LxError, RanksLostError, TrainingError
    from lx.nn.pretrained import PretrainedClassifier
    from lx.report import tables
    from lx.run.checkpoint import load_weights
    from lx.run.directory import Result, RunDirectory, link_or_copy
    from lx.run.resume_config import find_state, in_use, locked
    from lx.system import hardware
    from lx.system.hardware import Hardware
    from lx.system.logging import log_to
    from lx.system.processes import end_with_parent, tell
    from lx.system.signals import Stopped, StopRequest, stop_on_signals
    from lx.tasks.base import Task
    from lx.tracking.context import RunContext
    from lx.tracking.evaluation import Evaluation, class_rows
    from lx.tracking.loggers import build_loggers, finish, record_evaluation
    from lx.training import builders
    from lx.training.callbacks.checkpoint import Checkpoint
    from lx.training.micro_batch import largest_micro_batch
    from lx.training.module import TextClassifier
    from lx.training.run_length import Timetable

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the worker process; returns its exit code."""
    end_with_parent()
    (path,) = sys.argv[1:] if arguments is None else arguments
    return execute(RunDirectory(Path(path)))


def execute(run: RunDirectory) -> int:
    """Train a run and turn the way it ends into an exit code and a message."""
    place = Place.from_environment()
    try:
        train_in(run, place)
    except LxError as error:
        return tell(f"error: {error}", error.exit_code, secondary=isinstance(error, RanksLostError))
    except Stopped as stopped:
        return tell(f"{stopped}; to go on: lx resume {run.path}", stopped.exit_code)
    except Exception as error:
        if died := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
            return tell(
                f"error: a process that assembles batches (pid {died[1]}) died, perhaps of too little memory; "
                f"to go on: lx resume {run.path} hardware.num_workers=0",
                1,
            )
        traceback.print_exc()
        return tell(f"the run failed ({type(error).__name__}: {error}); its directory is {run.path}", 1)
    return 0


def train_in(run: RunDirectory, place: Place | None = None) -> Result:
    """Train, test and record the run whose ``config.yaml`` lies in a run directory; go on where it was interrupted.

    Args:
        run: a fresh directory, or one of a run that was interrupted.
        place: of this process among those that train the run.

    Returns:
        How it ended.

    Raises:
        LxError: bad input or configuration. A run that had not begun to train leaves no directory behind.
    """
    place = place or Place.from_environment()
    started = time.perf_counter()
    had_begun = run.model.exists()
    with log_to(run.log, on_screen=place.is_first), stop_on_signals() as stop:
        try:
            return _train(run, place, stop, started)
        except LxError as error:
            if in_use(run):
                pass  # what is in there is another process's
            elif had_begun or run.trained or isinstance(error, TrainingError):
                _record_end(run, place, error, started)
            elif place.is_first:
                run.discard()
            raise
        except BaseException as error:
            _record_end(run, place, error, started)
            raise


def _train(run: RunDirectory, place: Place, stop: StopRequest, started: float) -> Result:
    config = run.read_config()
    cfg = OmegaConf.create(config)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # tokenizers wants to be told before worker processes exist
    seed_everything(cfg.seed, workers=True, verbose=False)
    here = hardware.resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads, place)

    with locked(run, place), joined(place, here.accelerator, run.path):
        data = builders.build_data(cfg, place)
        first_on_each_node(place, data.prepare_data)
        data.setup()
        for warning in data.corpus.report.warnings():
            log.warning(warning)
        state, step = find_state(run, data)
        times = builders.timetable(cfg, data)
        data.start_at(*times.position(step))
        task = builders.build_task(cfg, data)
        net = builders.build_net(cfg, data, task)
        module = builders.build_module(cfg, data, net, task)
        module.configure_optimizers()  # its settings are checked before anything is written
        callbacks, checkpoint = builders.build_callbacks(run, cfg, times, step, stop, place)
        if cfg.hardware.micro_batch == "auto":
            data.cut(largest_micro_batch(module, data, here))
        loggers: list[Logger] = []
        if place.is_first:
            _keep_what_rebuilds(run, data, net, task)
            tables.console().print(tables.start_table(_summary(cfg, here, data, net, times, place)))
            loggers = build_loggers(cfg.logger, _context(run, cfg, config, step))
        trainer = builders.build_trainer(cfg, here, times, loggers, callbacks, place)
        status, code = "failed", 1
        try:
            trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)
            if checkpoint.validated_step != trainer.global_step:  # training does not end with a validation
                trainer.validate(module, datamodule=data, verbose=False)
            result = _test(run, trainer, module, checkpoint, data)
            result.seconds = time.perf_counter() - started
            if place.is_first:
                evaluation = Evaluation(result.metrics, data.corpus.class_names, result.confusion_matrix)
                record_evaluation(loggers, evaluation)
                run.write_result(result)
            status, code = "finished", 0
        except (Stopped, KeyboardInterrupt) as stopped:
            status, code = "stopped", getattr(stopped, "exit_code", 130)
            raise
        finally:
            finish(loggers, status, code)
        if place.is_first:
            _show(run, result, data.corpus.class_names, loggers)
    return result


def _context(run: RunDirectory, cfg: DictConfig, config: dict[str, Any], step: int) -> RunContext:
    environment = run.read_json(run.environment)
    return RunContext(
        run.path, cfg.name, config, environment["overrides"], environment["revision"], environment["run_id"], step
    )


def _test(
    run: RunDirectory, trainer: Trainer, module: TextClassifier, checkpoint: Checkpoint, data: TextDataModule
) -> Result:
    """Evaluate the best weights on the test split, once; without one, the result is the best validation's."""
    metrics, summary = checkpoint.best_metrics, checkpoint.best_summary
    barrier()  # the first rank may still be writing the best weights
    if "test" in data.tables:
        load_whole_weights(module.net, load_weights(run))
        trainer.test(module, dataloaders=data.test_dataloader(), verbose=False)
        metrics, summary = {**module.scalars("test"), **metrics}, module.summaries["test"]
    else:
        log.info("there is no test split: the classes below are those of the best validation")
    assert summary is not None  # there was a validation
    return Result(
        "finished",
        str(run.path),
        metrics=metrics,
        objective=checkpoint.best,
        best_checkpoint=str(run.best),
        epochs=checkpoint.timetable.position(trainer.global_step)[0],
        steps=trainer.global_step,
        per_class=[vars(score) for score in summary.per_class],
        confusion_matrix=summary.confusion,
    )


def _keep_what_rebuilds(run: RunDirectory, data: TextDataModule, net: nn.Module, task: Task) -> None:
    """Put into the run directory what evaluation and prediction will need besides config and weights."""
    run.tokenizer.write_text(data.tokenizer.to_json(), encoding="utf-8")
    run.write_json(run.labels, list(data.corpus.class_names))
    sizes = {
        "vocab_size": data.tokenizer.vocab_size,
        "num_outputs": task.num_outputs,
        "num_token_types": data.num_token_types,
        "has_pairs": data.has_pairs,
        "class_counts": data.class_counts,
        "architecture": net.architecture() if isinstance(net, PretrainedClassifier) else None,
        "data": data.fingerprint,
    }
    run.write_json(run.model, sizes)
    if "test" in data.tables:
        link_or_copy(data.tables["test"].path, run.test)


def _summary(
    cfg: DictConfig, here: Hardware, data: TextDataModule, net: nn.Module, times: Timetable, place: Place
) -> tables.RunSummary:
    train = data.tables["train"]
    share = -(-cfg.data.batch_size // place.world_size)
    return tables.RunSummary(
        name=cfg.name,
        data=tables.DataSummary(
            source=data.source.describe("train"),
            rows={name: len(table) for name, table in data.tables.items()},
            num_classes=len(data.corpus.class_names),
            truncated=train.num_truncated / len(train),
            max_length=cfg.data.max_length,
            duplicates=sum(n for pair, n in data.corpus.report.shared.items() if pair.startswith("train/")),
        ),
        model=tables.ModelSummary(
            name=cfg.model._target_.rpartition(".")[2],
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            vocabulary=data.tokenizer.vocab_size,
        ),
        hardware=tables.HardwareSummary(
            here.name, here.arithmetic, here.threads, place.world_size, min(data.loaders.micro_batch or share, share)
        ),
        steps=tables.StepsSummary(
            epochs=times.num_epochs,
            steps_per_epoch=times.steps_per_epoch,
            total_steps=times.total_steps,
            batch_size=cfg.data.batch_size,
        ),
    )


def _show(run: RunDirectory, result: Result, class_names: Sequence[str], loggers: Sequence[Logger]) -> None:
    out = tables.console()
    rows = class_rows(class_names, result.confusion_matrix)
    out.print(tables.result_table(result.metrics, rows, result.seconds))
    sync = next((command for logger in loggers if (command := getattr(logger, "sync_command", None))), None)
    for command in tables.next_commands(run.path, sync):
        out.print(command, highlight=False, soft_wrap=True)


def _record_end(run: RunDirectory, place: Place, error: BaseException, started: float) -> None:
    """Write a result for a run that did not finish."""
    log.debug("the run ended", exc_info=error)
    if not place.is_first:
        return
    status = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
    message = str(error) or type(error).__name__
    with suppress(LxError):  # a full disk has no room for this either, and the error is told in any case
        run.write_result(Result(status, str(run.path), error=message, seconds=time.perf_counter() - started))


if __name__ == "__main__":
    sys.exit(main())
