"""Trains one run in its directory: ``python -m lx.worker RUN``. Read :func:`_train` from top to bottom."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lx import assembly, display, hardware
from lx.callbacks.checkpoint import Checkpoint, load_weights
from lx.data.datamodule import TextDataModule
from lx.errors import LxError
from lx.hardware import Hardware
from lx.logs import log_to
from lx.module import TextClassifier
from lx.nn.pretrained import PretrainedClassifier
from lx.run import Result, RunDirectory, link_or_copy
from lx.stop import Stopped, StopRequest, stop_on_signals
from lx.tasks.task import Task
from lx.tracking.build import build_loggers, finish, record_evaluation
from lx.tracking.context import RunContext
from lx.tracking.evaluation import Evaluation, class_rows

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the worker process; returns its exit code."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    return execute(RunDirectory(Path(path)))


def execute(run: RunDirectory) -> int:
    """Train a run and turn the way it ends into an exit code and a message."""
    try:
        train_in(run)
    except LxError as error:
        print(f"lx: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"lx: {stopped}; the run is in {run.path}", file=sys.stderr)
        return stopped.exit_code
    except Exception:
        traceback.print_exc()
        print(f"lx: the run failed; its directory is {run.path}", file=sys.stderr)
        return 1
    return 0


def train_in(run: RunDirectory) -> Result:
    """Train, test and record the run whose ``config.yaml`` lies in a fresh run directory.

    Raises:
        LxError: bad input or configuration. A run that had not begun to train leaves no directory behind.
    """
    started = time.perf_counter()
    with log_to(run.log), stop_on_signals() as stop:
        try:
            return _train(run, stop, started)
        except LxError as error:
            if run.trained:
                _record_end(run, error, started)
            else:
                run.discard()
            raise
        except BaseException as error:
            _record_end(run, error, started)
            raise


def _train(run: RunDirectory, stop: StopRequest, started: float) -> Result:
    config = run.read_config()
    cfg = OmegaConf.create(config)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # tokenizers wants to be told before worker processes exist
    seed_everything(cfg.seed, workers=True, verbose=False)
    here = hardware.resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)

    data = assembly.build_data(cfg)
    data.prepare_data()
    data.setup()
    for warning in data.corpus.report.warnings():
        log.warning(warning)
    task = assembly.build_task(cfg, data)
    net = assembly.build_net(cfg, data, task)
    module = assembly.build_module(cfg, data, net, task)
    module.configure_optimizers()  # its settings are checked before anything is written
    callbacks, checkpoint = assembly.build_callbacks(run, cfg, stop)
    _keep_what_rebuilds(run, data, net, task)
    display.console().print(display.start_table(_summary(cfg, here, data, net)))

    environment = run.read_json(run.environment)
    context = RunContext(run.path, cfg.name, config, environment["overrides"], environment["revision"])
    loggers = build_loggers(cfg.logger, context)
    trainer = assembly.build_trainer(cfg, here, loggers, callbacks)
    status, code = "failed", 1
    try:
        trainer.fit(module, datamodule=data)
        if not run.best.exists():  # training ended before its first validation
            trainer.validate(module, datamodule=data, verbose=False)
        result = _test(run, trainer, module, checkpoint, data)
        result.seconds = time.perf_counter() - started
        record_evaluation(loggers, Evaluation(result.metrics, data.corpus.class_names, result.confusion_matrix))
        run.write_result(result)
        status, code = "finished", 0
    except (Stopped, KeyboardInterrupt) as stopped:
        status, code = "stopped", getattr(stopped, "exit_code", 130)
        raise
    finally:
        finish(loggers, status, code)
    _show(run, result, data.corpus.class_names, loggers)
    return result


def _test(
    run: RunDirectory, trainer: Trainer, module: TextClassifier, checkpoint: Checkpoint, data: TextDataModule
) -> Result:
    """Evaluate the best weights on the test split, once; without one, the result is the best validation's."""
    metrics, summary = checkpoint.best_metrics, checkpoint.best_summary
    if "test" in data.tables:
        module.net.load_state_dict(load_weights(run))
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
        epochs=trainer.current_epoch,
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
    }
    run.write_json(run.model, sizes)
    if "test" in data.tables:
        link_or_copy(data.tables["test"].path, run.test)


def _summary(cfg: DictConfig, here: Hardware, data: TextDataModule, net: nn.Module) -> display.RunSummary:
    train = data.tables["train"]
    steps = assembly.total_steps(cfg, data)
    return display.RunSummary(
        name=cfg.name,
        data=display.DataSummary(
            source=data.source.describe("train"),
            rows={name: len(table) for name, table in data.tables.items()},
            num_classes=len(data.corpus.class_names),
            truncated=train.num_truncated / len(train),
            max_length=cfg.data.max_length,
            duplicates=sum(n for pair, n in data.corpus.report.shared.items() if pair.startswith("train/")),
        ),
        model=display.ModelSummary(
            name=cfg.model._target_.rpartition(".")[2],
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            vocabulary=data.tokenizer.vocab_size,
        ),
        hardware=display.HardwareSummary(
            here.name, here.precision, here.threads, cfg.hardware.micro_batch or cfg.data.batch_size
        ),
        steps=display.StepsSummary(
            epochs=-(-steps // data.steps_per_epoch),
            steps_per_epoch=data.steps_per_epoch,
            total_steps=steps,
            batch_size=cfg.data.batch_size,
        ),
    )


def _show(run: RunDirectory, result: Result, class_names: Sequence[str], loggers: Sequence[Logger]) -> None:
    out = display.console()
    rows = class_rows(class_names, result.confusion_matrix)
    out.print(display.result_table(result.metrics, rows, result.seconds))
    sync = next((command for logger in loggers if (command := getattr(logger, "sync_command", None))), None)
    for command in display.next_commands(run.path, sync):
        out.print(command, highlight=False, soft_wrap=True)


def _record_end(run: RunDirectory, error: BaseException, started: float) -> None:
    """Write a result for a run that did not finish."""
    status = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
    log.debug("the run ended", exc_info=error)
    message = str(error) or type(error).__name__
    seconds = time.perf_counter() - started
    run.write_result(Result(status, str(run.path), error=message, seconds=seconds))


if __name__ == "__main__":
    sys.exit(main())
