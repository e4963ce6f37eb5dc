"""Map an optimizer step to epoch, batch and due validations, so that a checkpoint needs no other loop state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunLength:
    """The length of a run, of its epochs, and of the intervals between its validations, in optimizer steps.

    Attributes:
        steps_per_epoch: global batches of an epoch.
        total_steps: after which training ends.
        validation_interval: steps from one validation to the next.
    """

    steps_per_epoch: int
    total_steps: int
    validation_interval: int

    @property
    def num_epochs(self) -> int:
        """Epochs begun when training ends."""
        return -(-self.total_steps // self.steps_per_epoch)

    def position(self, step: int) -> tuple[int, int]:
        """Whole epochs, and global batches of the next, that have been trained on after a number of steps."""
        return divmod(step, self.steps_per_epoch)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that the last of a number of steps belongs to."""
        return max(step - 1, 0) // self.steps_per_epoch + 1

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows when this many steps have been taken."""
        return step > 0 and step % self.validation_interval == 0
