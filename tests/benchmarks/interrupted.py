"""A run that is interrupted: its processes, how it goes on, and the run that it is compared with."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

LX = [sys.executable, "-m", "lx"]


@dataclass(frozen=True)
class End:
    """What a run came to."""

    weights: str
    rows: tuple[tuple[tuple[str, str], ...], ...]


def end_of(run: Path) -> End:
    """Hash of the final weights, and the metrics."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    digest = sha256()
    for name, weight in sorted(state.items()):
        digest.update(name.encode() + weight.contiguous().numpy().tobytes())
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in csv.DictReader(file)]
    return End(digest.hexdigest(), tuple(tuple(row.items()) for row in rows))


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A command in a session of its own."""
    with log.open("ab") as out:
        return subprocess.Popen([*LX, *arguments], stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def processes_of(run: Path) -> list[int]:
    """Every process whose command line names the run, and their descendants."""
    parents: dict[int, int] = {}
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if {str(run), f"run_dir={run}"} & set(words):
                found.add(int(place.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def kill_all(run: Path) -> None:
    """SIGKILL for the process groups of a run: that of the launcher, and those that it started."""
    for group in {os.getpgid(process) for process in processes_of(run) if Path(f"/proc/{process}").exists()}:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def went_on(log: Path) -> str:
    """Where the resumed run began."""
    found = re.findall(r"going on after step (\d+)", log.read_text(errors="replace"))
    return f"step {found[-1]}" if found else "the start"


class Trial:
    """A place for interrupted runs, and the run that they are compared with."""

    def __init__(self, overrides: list[str], folder: Path, name: str) -> None:
        self.overrides = overrides
        self.folder = folder / name
        self.folder.mkdir()
        self.reference = self.folder / "reference"
        begun = time.monotonic()
        log = self.folder / "reference.log"
        if start(self.arguments(self.reference), log).wait() != 0:
            sys.exit(log.read_text())
        self.seconds = time.monotonic() - begun
        self.end = end_of(self.reference)
        self.good = self.total = 0
        print(f"\n{name}: {self.seconds:.1f} s without interruption, weights {self.end.weights[:16]}", flush=True)

    def arguments(self, run: Path) -> list[str]:
        """Of ``lx``, to train in a directory."""
        return ["train", *self.overrides, f"run_dir={run}"]

    def finish(self, what: str, run: Path, begun: float) -> None:
        """Resume an interrupted run, compare, and print the row."""
        time.sleep(0.2)
        left = processes_of(run)
        log = run.with_suffix(".resume.log")
        code = start(["resume", str(run)], log).wait()
        end = end_of(run) if code == 0 else None
        same = end is not None and end == self.end
        self.good += same
        self.total += 1
        verdict = "same weights and metrics" if same else f"DIFFERENT (exit {code})"
        note = f", {len(left)} processes left" if left else ""
        print(f"  {self.total:3d} {what:45s} went on from {went_on(log):10s} {verdict}{note}", flush=True)
        if same:
            shutil.rmtree(run)

    def summary(self) -> None:
        """How many came to the same end."""
        print(f"  {self.good} of {self.total} the same", flush=True)


def is_rank(process: int) -> bool:
    """Whether a process is a worker itself, not one of those that assemble its batches."""
    try:
        parent = (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split())[1]
        words = [Path(f"/proc/{who}/cmdline").read_bytes() for who in (process, parent)]
    except OSError:
        return False
    return b"lx.training.worker" in words[0] and b"lx.launch.torchrun" in words[1]
