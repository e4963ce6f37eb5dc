"""Which of a run's processes this one is, as torchrun's launcher or srun says in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))


@dataclass(frozen=True)
class RankInfo:
    """Which of a run's processes this is. A process that was started by itself is rank 0 of 1.

    Attributes:
        rank: among all processes, from 0.
        world_size: how many processes there are.
        local_rank: among the processes of this machine, from 0.
        local_world_size: how many processes this machine has.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls) -> RankInfo:
        """Read the variables that torchrun or srun has set; srun's are translated into torchrun's first."""
        if "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            _set_torchrun_variables()
        return cls(*(int(os.environ.get(name, default)) for name, default in _VARIABLES))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes and prints."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        """How many machines take part; each has the same number of ranks."""
        return self.world_size // self.local_world_size


def _set_torchrun_variables() -> None:
    slurm = os.environ
    os.environ.update(
        RANK=slurm["SLURM_PROCID"],
        WORLD_SIZE=slurm["SLURM_STEP_NUM_TASKS"],
        LOCAL_RANK=slurm["SLURM_LOCALID"],
        LOCAL_WORLD_SIZE=slurm["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0],
    )
