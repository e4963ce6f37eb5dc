"""Every use that lx makes of undocumented parts of Lightning, datasets, tokenizers and wandb, with its reason.

Checked with lightning 2.6.6, datasets 5.2, tokenizers 0.23 and wandb 0.31. pyproject.toml bounds the versions; look
here first when a bound moves.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def training_state(trainer: Trainer) -> dict[str, Any]:
    """Collect the state of weights, optimizer, schedule and callbacks, without that of the loops.

    ``Trainer.save_checkpoint`` writes a file at once, but lx writes in a thread. The state of the loops is left out
    because it cannot tell a finished epoch whose validation is due from one that was validated.
    """
    state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    return {name: content for name, content in state.items() if name != "loops"}


def silence_device_lines() -> None:
    """Drop Lightning's lines about CUDA devices, and its advice to compute float32 in less: lx chooses and says so."""
    logging.getLogger("lightning.pytorch.accelerators.cuda").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "set_float32_matmul_precision" not in record.getMessage()


def skip_sigterm_broadcast(trainer: Trainer) -> None:
    """Switch off the broadcast of SIGTERM at every step, for which Lightning waits for the device.

    lx's GracefulStop passes stop requests between ranks without waiting.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def set_validation_steps(trainer: Trainer, validates_after: Callable[[int], bool]) -> None:
    """Let a function of the steps taken decide when Lightning validates, whose own interval is a whole number."""
    loop = trainer.fit_loop.epoch_loop
    loop._should_check_val_fx = lambda data_fetcher: validates_after(trainer.global_step)  # type: ignore[method-assign]


def set_loop_counters(trainer: Trainer, epoch: int, step: int) -> None:
    """Set the counters of the loops to the whole epochs and optimizer steps that are done, before the loops run."""
    loop = trainer.fit_loop
    for epochs in (loop.epoch_progress.current, loop.epoch_progress.total):
        epochs.ready = epochs.completed = epoch
        epochs.started = epochs.processed = epoch  # type: ignore[attr-defined]
    for steps in (loop.epoch_loop.batch_progress, loop.epoch_loop.manual_optimization.optim_step_progress):
        steps.total.ready = steps.total.completed = step


def validate_within_fit(trainer: Trainer) -> None:
    """Run a validation as Lightning does within an epoch; ``Trainer.validate`` would end the training."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def ignoring_experiment() -> Any:
    """Build Lightning's logger experiment that ignores every call, as its own loggers return on other ranks."""
    from lightning.fabric.loggers.logger import _DummyExperiment

    return _DummyExperiment()


def dataset_fingerprint(dataset: Any) -> str:
    """Return the fingerprint of a ``datasets.Dataset``, which follows its files and every operation on it.

    There is no public name for it, and hashing the rows would read them all.
    """
    return str(dataset._fingerprint)


def trainer_settings(trainer: Any) -> dict[str, Any]:
    """Return the settings of a trainer of the tokenizers library, which shows them only in its pickled state."""
    settings: dict[str, Any] = json.loads(trainer.__getstate__())
    return settings


def kind_of_wandb_record(record: bytes) -> str | None:
    """Name the kind of a record of W&B's log, such as ``run`` or ``history``: no public reader of the log does."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    kind: str | None = messages.Record.FromString(record).WhichOneof("record_type")
    return kind
