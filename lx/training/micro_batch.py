"""Find how many examples fit into the device's memory at a time."""

from __future__ import annotations

import logging
from typing import Any

import torch

from lx.data.datamodule import TextDataModule
from lx.distributed.process_group import all_gather, all_reduce_min
from lx.errors import TrainingError
from lx.run.directory import RunDirectory
from lx.system.files import atomic_write_json
from lx.system.hardware import Hardware
from lx.training.module import TextClassifier

log = logging.getLogger(__name__)


def micro_batch_size(
    run: RunDirectory, module: TextClassifier, data: TextDataModule, hardware: Hardware, strategy: str
) -> int:
    """Return how many of the rank's examples of a global batch to compute at a time.

    The number found is kept in the run: one that is resumed on the same hardware computes in the same micro-batches as
    before, so that it rounds, and draws dropout, in the same way.

    Args:
        run: its directory.
        module: to try.
        data: to try it on.
        hardware: of this process.
        strategy: ``hardware.strategy``; with ``fsdp`` nothing is tried, since a whole network need not fit.

    Raises:
        TrainingError: not even one example fits.
    """
    share = -(-data.options.batch_size // data.loaders.world_size)
    if hardware.device.type == "cpu" or strategy == "fsdp":
        return share
    trial = {"device": hardware.name, "precision": hardware.precision, "share": share}
    kept = all_gather(_kept_size(run, trial))[0]  # the first rank's: a shared directory may show the others less
    size = kept or largest_micro_batch(module, data, hardware, share)
    if data.loaders.rank == 0:
        atomic_write_json(run.micro_batch, {**trial, "micro_batch": size})
    return size


def _kept_size(run: RunDirectory, trial: dict[str, Any]) -> int | None:
    kept = run.read_json(run.micro_batch) if run.micro_batch.exists() else None
    size = kept.get("micro_batch") if isinstance(kept, dict) else None
    return size if kept == {**trial, "micro_batch": size} and size in range(1, trial["share"] + 1) else None


def largest_micro_batch(module: TextClassifier, data: TextDataModule, hardware: Hardware, share: int) -> int:
    """Halve the rank's share of a global batch until the longest examples of the data fit.

    Each size is tried by a forward and a backward pass before training, and all ranks agree on the smallest. Not for a
    CPU: out of memory there, the system ends the process instead of raising an error.

    Raises:
        TrainingError: not even one example fits.
    """
    module.to(hardware.device)
    fitting = share
    while not _fits(module, data, hardware, fitting):
        if fitting == 1:
            raise TrainingError(
                "the memory of the device is too small for one example of the longest kind: lower data.max_length, or "
                "choose a smaller model"
            )
        fitting = -(-fitting // 2)
    module.zero_grad()
    fitting = all_reduce_min(fitting)
    if fitting < share:
        log.info("memory runs out with %d examples at a time: hardware.micro_batch=%d", share, fitting)
    return fitting


def _fits(module: TextClassifier, data: TextDataModule, hardware: Hardware, size: int) -> bool:
    batch = data.longest(size).to(hardware.device)
    try:
        # Without autocast's cache, as Lightning trains: a compiled network would be compiled anew there otherwise.
        with hardware.autocast(cache=False):
            loss = module.losses(batch)[0].sum()
        loss.backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        return False
    finally:
        module.zero_grad()
        if hardware.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
