"""Settings of the data loaders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoaderOptions:
    """How batches reach the model; only ``seed`` and the limits change what is learned.

    Attributes:
        seed: of the order of the batches.
        micro_batch: examples per forward pass; None: all of the rank's examples of a global batch.
        num_workers: processes that assemble batches.
        rank: of this process: decides which examples of every batch are its own.
        world_size: number of ranks.
        limit_train_batches: global batches an epoch; None: all.
        limit_eval_batches: batches an evaluation; None: all.
    """

    seed: int = 0
    micro_batch: int | None = None
    num_workers: int = 0
    rank: int = 0
    world_size: int = 1
    limit_train_batches: int | None = None
    limit_eval_batches: int | None = None
