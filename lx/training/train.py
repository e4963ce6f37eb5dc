"""Train the run of a directory. Read :func:`_train` from top to bottom."""

from __future__ import annotations

import logging
from contextlib import nullcontext

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from lx.config.compose import resolved
from lx.data.datamodule import TextDataModule
from lx.distributed.fsdp import load_full_state_dict
from lx.distributed.process_group import barrier, process_group
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError, MissingDataError, TrainingError
from lx.run.checkpoint import find_state, load_best
from lx.run.directory import RunDirectory
from lx.run.lock import in_use, locked
from lx.run.result import Result
from lx.system.console import show
from lx.system.hardware import is_busy, resolve
from lx.system.logging import log_to
from lx.system.processes import variable
from lx.system.signals import StopRequest, stop_on_signals
from lx.tasks.base import Evaluation
from lx.tracking.loggers import (
    build_loggers,
    check_loggers,
    finished_at_end,
    record_report,
    record_results,
    starting_services,
)
from lx.training.builders import build_run
from lx.training.callbacks.checkpoint import Checkpoint
from lx.training.callbacks.predictions import RecordPredictions
from lx.training.callbacks.verdict import AwaitVerdict
from lx.training.display import show_result, start_table
from lx.training.latency import prediction_latency
from lx.training.micro_batch import micro_batch_size
from lx.training.module import TextClassifier
from lx.training.run_record import Session, run_context, run_results, save_model_inputs, save_recipe
from lx.training.seeding import seed_process
from lx.training.time_budget import fit_into_time
from lx.training.trainer import build_callbacks, build_trainer

log = logging.getLogger(__name__)


def train_in(run: RunDirectory, rank_info: RankInfo | None = None, seconds_before: float = 0.0) -> Result:
    """Train, test and record the run whose ``config.yaml`` lies in a run directory; go on where it was interrupted.

    Args:
        run: a fresh directory, or one of a run that was interrupted.
        rank_info: of this process among those that train the run.
        seconds_before: that the start of its process has taken so far.

    Returns:
        How it ended.

    Raises:
        LxError: bad input or configuration. A run that had not begun to train leaves no directory behind.
    """
    rank_info = rank_info or RankInfo.from_environment()
    session = Session(run, rank_info.is_first, seconds_before)
    # tokenizers would complain of each worker process that is forked; they have none to do
    quiet_forks = variable("TOKENIZERS_PARALLELISM", "true")
    with log_to(run.log, on_screen=rank_info.is_first), stop_on_signals() as stop, quiet_forks:
        try:
            return _train(run, rank_info, stop, session)
        except LxError as error:
            if in_use(run):
                pass  # what is in there is another process's
            elif session.is_resumed or session.has_begun or isinstance(error, TrainingError):
                session.record_end(error)
            elif rank_info.is_first:
                run.discard()
            if session.is_resumed and not session.has_begun and isinstance(error, MissingDataError):
                raise LxError(f"{error}; if it has moved: lx resume {run.quoted} data.train=NEWPATH") from error
            raise
        except BaseException as error:
            session.record_end(error)
            raise


def _train(run: RunDirectory, rank_info: RankInfo, stop: StopRequest, session: Session) -> Result:
    cfg = OmegaConf.create(run.next_config())
    seed_process(cfg.seed)
    hardware = resolve(
        cfg.hardware.accelerator,
        cfg.hardware.precision,
        cfg.hardware.threads,
        rank_info.local_rank,
        rank_info.local_world_size,
    )
    if hardware.device.type == "cpu" and cfg.hardware.threads is None and is_busy():
        log.warning("other programs keep this machine busy: training may be many times slower than alone")
    lock = locked(run) if rank_info.is_first else nullcontext()
    with lock, process_group(rank_info, hardware.device, run.path):
        with starting_services(cfg.logger if rank_info.is_first else None):
            built = build_run(cfg, hardware, rank_info)
            built.fit_expert(rank_info)
        data = built.data
        for warning in data.corpus.report.warnings():
            log.warning(warning)
        state, step = find_state(run, data.fingerprint)
        if built.cfg.hardware.micro_batch == "auto" and built.run_length.total_steps:
            strategy = built.cfg.hardware.strategy
            data.set_micro_batch_size(micro_batch_size(run, built.module, data, hardware, strategy))
        if state is None:  # a run that goes on keeps its length, however fast this machine is
            built = fit_into_time(built, hardware, rank_info, lambda: session.stopwatch.seconds)
        cfg, module = built.cfg, built.module
        _refuse_shorter(run, cfg, step, built.run_length.total_steps)
        data.start_at(*built.run_length.position(step))
        callbacks, checkpoint = build_callbacks(run, cfg, built.run_length, step, stop, rank_info)
        recorder = RecordPredictions(run, data, checkpoint)
        callbacks += [recorder, session.stopwatch]
        check_loggers(cfg.logger)
        checkpoint.step = step
        session.begin(checkpoint)
        loggers: list[Logger] = []
        if rank_info.is_first:
            save_recipe(run, built)
            save_model_inputs(run, data, module)
            show(start_table(built, hardware, rank_info, run.read_reasons()))
            loggers = build_loggers(cfg.logger, run_context(run, resolved(cfg), step, data))
        trainer = build_trainer(cfg, hardware, built.run_length, loggers, callbacks, rank_info)
        with finished_at_end(loggers) as end:
            if built.run_length.total_steps:
                trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)  # unpickled safely, all of it
            if checkpoint.best_evaluation is None or checkpoint.validated_step != trainer.global_step:
                # The last step was not validated, or there were no steps.
                trainer.validate(module, datamodule=data, verbose=False)
            for callback in callbacks:
                if isinstance(callback, AwaitVerdict):
                    end.status = callback.status
            result, evaluation = _end(run, end.status, trainer, module, checkpoint, data, recorder)
            if rank_info.is_first:
                recorder.write(module, cfg.data.get("keep_texts", True))  # older runs do not say
            if cfg.objective.get("latency") and result.status == "finished":  # older runs have none
                result.latency = prediction_latency(trainer, module, data)
            result.seconds = session.stopwatch.seconds
            if rank_info.is_first:
                record_results(loggers, run_results(run, result, module.task.tables(evaluation)))
                run.write_result(result)
                record_report(loggers, run.path)
        if rank_info.is_first:
            show_result(run, result, module.task.show(evaluation), loggers)
    return result


def _end(
    run: RunDirectory,
    status: str,
    trainer: Trainer,
    module: TextClassifier,
    checkpoint: Checkpoint,
    data: TextDataModule,
    recorder: RecordPredictions,
) -> tuple[Result, Evaluation]:
    """Evaluate the best weights on the test split, once; without one, or if unfinished, report the best validation."""
    metrics, evaluation = checkpoint.best_metrics, checkpoint.best_evaluation
    assert evaluation is not None  # there was a validation
    choices = evaluation.choices
    barrier()  # the first rank may still be writing the best weights
    is_tested = status == "finished" and "test" in data.tables
    module.task.choices = choices
    if is_tested or not recorder.has_validation:
        load_full_state_dict(module.net, load_best(run)[0])
    if not recorder.has_validation:
        recorder.repeat_validation(trainer, module)
    if status != "finished":
        log.info("%s by the sweep: the results below are those of the best validation", status)
    elif is_tested:
        trainer.test(module, dataloaders=data.test_dataloader(), verbose=False)
        metrics, evaluation = {**module.scalars("test"), **metrics}, module.evaluations["test"]
    else:
        log.info("there is no test split: the results below are those of the best validation")
    result = Result(
        status,
        str(run.path),
        metrics=metrics,
        objective=checkpoint.best_objective,
        best_checkpoint=str(run.best),
        epochs=checkpoint.run_length.position(trainer.global_step)[0],
        steps=trainer.global_step,
        parameters=sum(parameter.numel() for parameter in module.net.parameters()),
        details={
            **evaluation.details,
            **({"choices": choices} if choices else {}),
            **({"expert": data.expert.facts} if data.expert is not None else {}),
        },
    )
    return result, evaluation


def _refuse_shorter(run: RunDirectory, cfg: DictConfig, step: int, total_steps: int) -> None:
    """Raise LxError if a run has gone beyond the length that it is resumed with."""
    if step > total_steps:
        key = "max_epochs" if cfg.trainer.max_steps is None else "max_steps"
        raise LxError(
            f"trainer.{key}={cfg.trainer[key]}: {run.path} is already past that: it has taken {step:,} steps, and this "
            f"would be {total_steps:,}"
        )
