"""Find how many examples fit into the device's memory at a time."""

from __future__ import annotations

import logging

import torch

from lx.data.datamodule import TextDataModule
from lx.distributed.process_group import all_reduce_min
from lx.errors import TrainingError
from lx.system.hardware import Hardware
from lx.training.module import TextClassifier

log = logging.getLogger(__name__)


def largest_micro_batch(module: TextClassifier, data: TextDataModule, hardware: Hardware) -> int:
    """Halve the rank's share of a global batch until the longest examples of the data fit.

    Each size is tried by a forward and a backward pass before training, and all ranks agree on the smallest. On a CPU
    nothing is tried: out of memory there, the system ends the process instead of raising an error.

    Raises:
        TrainingError: not even one example fits.
    """
    size = -(-data.options.batch_size // data.loaders.world_size)
    if hardware.device.type == "cpu":
        return size
    module.to(hardware.device)
    fitting = size
    while not _fits(module, data, hardware, fitting):
        if fitting == 1:
            raise TrainingError(
                "the memory of the device is too small for one example of the longest kind: lower data.max_length, or "
                "choose a smaller model"
            )
        fitting = -(-fitting // 2)
    module.zero_grad()
    fitting = all_reduce_min(fitting)
    if fitting < size:
        log.info("memory runs out with %d examples at a time: hardware.micro_batch=%d", size, fitting)
    return fitting


def _fits(module: TextClassifier, data: TextDataModule, hardware: Hardware, size: int) -> bool:
    batch = data.longest(size).to(hardware.device)
    try:
        with torch.autocast(hardware.device.type, hardware.autocast_dtype, enabled=hardware.autocast_dtype is not None):
            loss = module.task.loss(module(batch), batch.labels).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        return False
    finally:
        module.zero_grad()
        if hardware.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
