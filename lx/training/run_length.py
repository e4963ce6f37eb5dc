"""Map an optimizer step to epoch, batch and due validations, so that a checkpoint needs no other loop state."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class RunLength:
    """The length of a run, of its epochs, and of the intervals between its validations, in optimizer steps.

    Attributes:
        steps_per_epoch: global batches of an epoch.
        total_steps: after which training ends.
        validation_interval: steps from one validation to the next; a fraction for a share of an epoch.
    """

    steps_per_epoch: int
    total_steps: int
    validation_interval: int | Fraction

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

    def validations_by(self, step: int) -> int:
        """Validations due within a number of steps: each at the end of the step in which its interval ends."""
        return int(step // self.validation_interval)

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows when this many steps have been taken."""
        return step > 0 and self.validations_by(step) > self.validations_by(step - 1)


def validation_interval(setting: int | float | None, every_n_epoch: int, steps_per_epoch: int) -> int | Fraction:
    """Steps from one validation to the next, exactly: a rounded interval would miss the ends of epochs.

    Args:
        setting: ``trainer.val_check_interval``: steps, a share of an epoch between 0 and 1, or None.
        every_n_epoch: epochs from one validation to the next, where that is None.
        steps_per_epoch: global batches of an epoch.
    """
    if isinstance(setting, float):
        return max(Fraction(1), Fraction(str(setting)) * steps_per_epoch)
    return setting or every_n_epoch * steps_per_epoch
