"""Going on with a run: from which state, under which settings, and by one process group at a time."""

from __future__ import annotations

import fcntl
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lx.config.compose import compose, resolved
from lx.config.instantiate import check_all_targets
from lx.config.validate import check_config
from lx.errors import LxError, did_you_mean
from lx.run.directory import RunDirectory

if TYPE_CHECKING:
    from lx.data.datamodule import TextDataModule
    from lx.distributed.process_group import Place

log = logging.getLogger(__name__)
_ADJUSTABLE = (
    "hardware",
    "logger",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.save_every_n_steps",
    "trainer.save_every_n_minutes",
    "trainer.on_nan",
)
# What was killed keeps its lock until all of its memory is freed, which takes a moment.
_PATIENCE_S = 3.0
_MORE = re.compile(r"(trainer\.max_(?:epochs|steps))=\+(\d+)$")


def find_state(run: RunDirectory, data: TextDataModule) -> tuple[Path | None, int]:
    """The training state to go on from, and the optimizer steps that were taken to it; None and 0 at the start.

    Raises:
        LxError: every state is damaged, or the data is not what the run began with.
    """
    from lx.run.checkpoint import newest_whole, read_step

    if run.model.exists() and run.read_sizes().get("data") != data.fingerprint:
        raise LxError(
            f"the data is not what {run.path} was trained on: its texts, labels or tokens have changed since; bring "
            "the files back as they were, or train anew with another run_dir"
        )
    state = newest_whole(run)
    if state is None:
        return None, 0
    step = read_step(state)
    log.info("going on after step %d", step)
    return state, step


@contextmanager
def locked(run: RunDirectory, place: Place) -> Iterator[None]:
    """Keep every other run out of the directory while the block runs; a process that dies lets go.

    Raises:
        LxError: one is in there.
    """
    if not place.is_first:
        yield
        return
    with _lock_file(run).open("a") as file:
        if not _lock(file, _PATIENCE_S):
            raise _refusal(run)
        yield


def require_idle(run: RunDirectory) -> None:
    """Refuse a run directory that another process trains in.

    Raises:
        LxError: one does.
    """
    if in_use(run, _PATIENCE_S):
        raise _refusal(run)


def in_use(run: RunDirectory, patience: float = 0.0) -> bool:
    """Whether another process trains in a run directory; not to be asked by the one that does.

    Args:
        run: the directory.
        patience: seconds that it is given to end.
    """
    if not _lock_file(run).exists():
        return False
    with _lock_file(run).open("a") as file:
        return not _lock(file, patience)


def _lock_file(run: RunDirectory) -> Path:
    return run.path / ".lock"


def _lock(file: IO[str], patience: float) -> bool:
    # Not flock, which the processes that assemble batches would hold on to for a while after this one is gone.
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _refusal(run: RunDirectory) -> LxError:
    return LxError(f"{run.path} is being trained by another process at this moment")


def readjust(run: RunDirectory, overrides: Sequence[str], trust: Sequence[str]) -> None:
    """Check an interrupted run and write down what is to change when it goes on.

    Args:
        run: its directory.
        overrides: of hardware, logger, when to save, and the length of the training (``trainer.max_epochs=+2`` adds
            two).
        trust: packages whose classes may be built from the run's configuration.

    Raises:
        LxError: not a run, one that was refused, or overrides that would make it another run.
    """
    config = run.read_config()
    check_all_targets(config, run.config, trust)
    for key in map(_key, overrides):
        if not any(key == known or key.startswith((f"{known}.", f"{known}/")) for known in _ADJUSTABLE):
            raise LxError(
                f"{key} cannot change when a run goes on: it would be another run. What can: {', '.join(_ADJUSTABLE)}"
            )
    if overrides:
        run.write_config(_adjusted(config, overrides))


def _adjusted(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with the overrides' groups and values put in place of its own."""
    from omegaconf import OmegaConf

    groups = [override for override in overrides if "." not in _key(override)]
    composed = resolved(compose(groups)) if groups else {}
    new = OmegaConf.create({**config, **{name: composed[name] for name in map(_key, groups)}})
    for override in overrides:
        if override not in groups:
            key = _key(override)
            parent = key.rpartition(".")[0]
            known = _flat(OmegaConf.to_container(new))
            if key not in known:
                missing = key if any(name.startswith(f"{parent}.") for name in known) else parent
                raise LxError(f"{override}: the run has no {missing}{did_you_mean(key, list(known))}")
            OmegaConf.update(new, key, _value(override, config), merge=False)
    check_config(new, new)
    return resolved(new)


def _key(override: str) -> str:
    """The key that an override sets."""
    return override.lstrip("+~").partition("=")[0]


def _value(override: str, config: dict[str, Any]) -> Any:
    """What an override sets; ``trainer.max_epochs=+2`` sets two more than there were."""
    if more := _MORE.match(override):
        before = config["trainer"][more[1].partition(".")[2]]
        if before is None:
            raise LxError(f"{override}: the run has no {more[1]} to add to; it is as long as its epochs")
        return before + int(more[2])
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_override(override).value()
    except OverrideParseException as error:
        raise LxError(f"{override}: {str(error).splitlines()[0]}") from error


def differences(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """The settings, of those that make a run what it is, in which a configuration differs from a run's."""
    ours, theirs = (_flat(whole) for whole in (run.read_config(), config))
    fixed = [
        key for key in {**ours, **theirs} if not key.startswith((*_ADJUSTABLE, "name", "run_dir", "launch", "resume"))
    ]
    return sorted(key for key in fixed if ours.get(key) != theirs.get(key))


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
