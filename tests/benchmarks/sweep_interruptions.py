"""Kill a sweep with all its processes at many instants, resume it, and compare it with one that nobody killed.

    python tests/benchmarks/sweep_interruptions.py --kills 20 data=files data.train=... optimizer.lr=0.1,0.01 seed=0,1

With ``--workers 2`` a ``lx sweep work`` runs beside each sweep, and only one of the two is killed: the other has to end
the sweep by itself. With LX_SWEEP_STORAGE set, the studies live in that database.

Prints a row for each kill: when it struck, how many runs had finished then, and whether the resumed sweep has each run
exactly once with the objective and the losses of the undisturbed sweep. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna

from lx.sweep.record import Record
from lx.sweep.storage import open_storage

LX = [sys.executable, "-m", "lx"]
KINDS = ("any time", "journal write", "between two runs", "checkpoint write", "composing")


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A command in a session of its own."""
    with log.open("ab") as out:
        return subprocess.Popen([*LX, *arguments], stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def runs(sweep: Path) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Objective and losses of every finished run, by its directory below the sweep's."""
    found = {}
    for path in sweep.rglob("result.json"):
        with (path.parent / "metrics.csv").open(newline="") as file:
            losses = tuple(row["train/loss"] for row in csv.DictReader(file))
        content = json.loads(path.read_text())
        if content["status"] == "finished":
            found[str(path.parent.relative_to(sweep))] = content["objective"], losses
    return found


def recorded(sweep: Path) -> list[str]:
    """The state of every trial in the sweep's study, by number."""
    name = Record.read(sweep).study
    study = optuna.load_study(study_name=name or "lx", storage=open_storage(sweep, name))
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def processes_of(sweep: Path) -> list[int]:
    """Processes whose output goes into the sweep's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "fd" / "1").readlink()).startswith(f"{sweep}/"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(kind: str, sweep: Path, seconds: float, process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """Return at the instant, or when the process has ended."""

    def size(path: Path) -> int:
        return path.stat().st_size if path.exists() else 0

    journal = sweep / "journal.log"
    skip = draw.randrange(5)
    signs: dict[str, Callable[[], object]] = {
        "journal write": lambda: size(journal),
        "between two runs": lambda: len(list(sweep.rglob("result.json"))),
        "checkpoint write": lambda: sorted(map(str, sweep.rglob(".*.ckpt.*.tmp"))),
        "composing": lambda: len(list(sweep.rglob("*claim.json"))),
    }
    delay = draw.uniform(0, seconds) if kind == "any time" else draw.uniform(0, 0.3 if kind == "composing" else 0.02)
    if kind != "any time":
        before = signs[kind]()
        while process.poll() is None and skip >= 0:
            now = signs[kind]()
            skip -= now != before
            before = now
            time.sleep(0.0005)
    deadline = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def main() -> None:
    """One row for each kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    draw, good = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        command = ["train", "-m", *args.overrides, "sweep.threads=1"]
        undisturbed = Path(scratch) / "undisturbed"
        begun = time.monotonic()
        if start([*command, f"sweep.dir={undisturbed}"], log).wait():
            sys.exit(log.read_text())
        seconds = time.monotonic() - begun
        expected, states = runs(undisturbed), recorded(undisturbed)
        print(f"{len(expected)} runs, {len(states)} trials, {seconds:.0f} s without a kill", flush=True)
        for number in range(args.kills):
            sweep, kind = Path(scratch) / f"sweep{number}", KINDS[number % len(KINDS)]
            log = Path(scratch) / f"log{number}"
            process = start([*command, f"sweep.dir={sweep}"], log)
            begun, other = time.monotonic(), None
            if args.workers == 2:
                while not (sweep / "sweep.json").exists() and process.poll() is None:
                    time.sleep(0.01)
                other = start(["sweep", "work", str(sweep)], log)
            wait_for(kind, sweep, seconds, process, draw)
            done, after = len(runs(sweep)), time.monotonic() - begun
            victim = process if other is None else draw.choice([process, other])
            if victim.poll() is None:
                os.killpg(victim.pid, signal.SIGKILL)
            victim.wait()
            if other is None:
                time.sleep(0.5)
                left = processes_of(sweep)
                code = start(
                    ["sweep", "resume", str(sweep)]
                    if (sweep / "sweep.json").exists()
                    else [*command, f"sweep.dir={sweep}"],
                    log,
                ).wait()
            else:
                code = (other if victim is process else process).wait()
                left = processes_of(sweep)
            same = code == 0 and runs(sweep) == expected and recorded(sweep) == states and not left
            good += same
            verdict = (
                "each run once, the same numbers"
                if same
                else f"DIFFERENT (exit {code}, {left} left)\n{log.read_text()}"
            )
            print(f"{number + 1:3d} {kind:17s} after {after:5.1f} s, {done} runs done: {verdict}", flush=True)
    print(f"{good} of {args.kills} the same")
    sys.exit(good != args.kills)


if __name__ == "__main__":
    main()
