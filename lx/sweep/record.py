"""What a sweep is, as ``sweep.json`` records it: enough to go on with it from any directory and by any worker."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lx.errors import LxError
from lx.sweep.plan import CHECKED_OTHERWISE, Plan, make_plan
from lx.sweep.space import Choices
from lx.system.files import atomic_write_json
from lx.system.git import revision
from lx.system.output import say

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


@dataclass(frozen=True)
class Record:
    """The content of ``sweep.json``.

    Attributes:
        overrides: of the command that began the sweep, or made it larger.
        config_dir: the user's folder of config groups.
        cwd: where it began; paths of the command are relative to it.
        threads: CPU threads of each run; kept, because their number changes rounding.
        flat_seed: the seed whose run lies in the trial's directory itself; None: each run lies in ``seed-SEED`` below.
        metric: the objective.
        mode: ``max`` or ``min``.
        further: ``max`` or ``min`` of further objectives, by name.
        revision: of lx, when the sweep was last planned.
        study: the name of the study in a database; None: it lives in the journal.
        fixed: the overrides that all trials share.
        top: how many of the best runs ``sweep=auto`` has found best to average, on validation; None: not determined.
    """

    overrides: tuple[str, ...]
    config_dir: str | None
    cwd: str
    threads: int
    flat_seed: int | None
    metric: str
    mode: str
    further: dict[str, str] = field(default_factory=dict)
    revision: str | None = None
    study: str | None = None
    fixed: tuple[str, ...] = ()
    top: int | None = None

    @classmethod
    def of(cls, plan: Plan, before: Record | None) -> Record:
        """Return the record of a plan.

        Args:
            plan: of the sweep.
            before: the sweep's record so far; None: it begins.
        """
        from lx.sweep.slots import threads_each  # imports torch, which `lx sweep show` does without
        from lx.sweep.storage import new_study_name

        seeds, threads = plan.space.seeds, plan.settings["threads"]
        if before is not None:
            threads, flat_seed, study = threads or before.threads, before.flat_seed, before.study
        else:
            on_slurm = "submit" in plan.hardware
            default = (plan.hardware["threads"] or 1) if on_slurm else threads_each(plan.settings["n_jobs"])
            threads = threads or default
            flat_seed, study = seeds[0] if len(seeds) == 1 else None, new_study_name()
        return cls(
            overrides=plan.overrides,
            config_dir=plan.config_dir,
            cwd=str(Path.cwd()),
            threads=threads,
            flat_seed=flat_seed,
            metric=plan.metric,
            mode=plan.mode,
            further=plan.further_objectives,
            revision=revision(),
            study=study,
            fixed=plan.space.fixed,
        )

    @classmethod
    def read(cls, directory: Path) -> Record:
        """Read ``sweep.json``.

        Raises:
            LxError: it is missing, or not written by lx.
        """
        path = directory / "sweep.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            fields = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
            fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
            return cls(**fields)
        except OSError as error:
            raise LxError(f"{directory} is no sweep: there is no sweep.json in it") from error
        except (ValueError, TypeError, KeyError) as error:
            raise LxError(f"{path} is not the record of a sweep: {error}") from error

    def warn_of_other_code(self) -> None:
        """Print a warning on stderr if the git revision is not the one that planned the sweep."""
        now = revision()
        if now != self.revision:
            say(f"lx: the code has changed since this sweep was planned: {self.revision}, now {now}", sys.stderr)

    def write(self, directory: Path) -> None:
        """Write ``sweep.json``."""
        atomic_write_json(directory / "sweep.json", asdict(self))


def check_extension(directory: Path, record: Record, hydra: Hydra, plan: Plan) -> None:
    """Refuse a command that is neither the sweep's own nor a larger one.

    Raises:
        LxError: lists what differs.
    """
    before = make_plan(hydra, record.overrides, record.config_dir, num_checked=1)
    differences = [f"{text} was not there" for text in plan.space.fixed if text not in before.space.fixed]
    differences += [f"{text} is gone" for text in before.space.fixed if text not in plan.space.fixed]
    now = {axis.key: axis for axis in plan.space.axes}
    for axis in before.space.axes:
        new = now.pop(axis.key, None)
        grown = isinstance(axis, Choices) and isinstance(new, Choices) and set(axis.values) <= set(new.values)
        if new != axis and not grown:
            differences.append(f"{axis.key} varied otherwise" if new is not None else f"{axis.key} varies no more")
    differences += [f"{key} did not vary" for key in now]
    differences += [f"seed {seed} is gone" for seed in before.space.seeds if seed not in plan.space.seeds]
    if (plan.settings["n_trials"] or 0) < (before.settings["n_trials"] or 0):
        differences.append(f"sweep.n_trials was {before.settings['n_trials']}")
    differences += [
        f"sweep.{key} was {value}"
        for key, value in before.settings.items()
        if key not in CHECKED_OTHERWISE and plan.settings[key] != value
    ]
    if differences:
        raise LxError(
            f"{directory} holds another sweep: {'; '.join(differences)}. Give the same command or a larger one (more "
            "values, seeds or trials), or choose another sweep.dir"
        )
