"""Measure what a trial of a sweep costs beside its training: from the end of a run to the first step of the next.

    python tests/benchmarks/sweep_overhead.py --trials 20 --singles 3 --trainer data=files data.train=... data.test=...

Prints the median and the largest overhead of the trials after the first, wall time and CPU time of the parts; then the
total beside as many ``lx train`` (``--singles`` of them are run, and their mean is multiplied), and beside Optuna that
drives transformers.Trainer in one process with the same sizes and steps (``--trainer``). Others on the machine disturb
the wall times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from lx.nn.classifier import TransformerClassifier

STEPS = 50
LX = [sys.executable, "-m", "lx"]


class StampedClassifier(TransformerClassifier):
    """Notes in ``$STAMPS`` when its first training step begins, and the CPU seconds of the process until then."""

    begun = False

    def forward(self, *inputs: Any) -> Tensor:
        if self.training and not self.begun:
            self.begun = True
            with Path(os.environ["STAMPS"]).open("a") as file:
                print(time.time(), time.process_time(), file=file)
        return super().forward(*inputs)


def overrides(more: list[str]) -> list[str]:
    """Of a tiny run of a few steps, which notes its first."""
    target = "model._target_=sweep_overhead.StampedClassifier"
    return [*more, "model=tiny", target, f"trainer.max_steps={STEPS}", "hardware=cpu", "hardware.threads=1"]


def run(arguments: list[str], stamps: Path) -> float:
    """Run a command of lx; the seconds that it took."""
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    begun = time.perf_counter()
    done = subprocess.run([*LX, *arguments], env={**env, "STAMPS": str(stamps)}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - begun


def sweep(trials: int, folder: Path, more: list[str]) -> float:
    """Run a sweep and print the overhead of its trials; the seconds that it took."""
    rates = ",".join(f"{1e-4 * (1 + trial / trials):.8f}" for trial in range(trials))
    command = ["train", "-m", *overrides(more), f"optimizer.lr={rates}", f"sweep.dir={folder / 'sweep'}"]
    seconds = run(command, folder / "stamps")
    first_steps = [tuple(map(float, line.split())) for line in (folder / "stamps").read_text().splitlines()]
    results = [folder / "sweep" / str(trial) / "result.json" for trial in range(trials)]
    ends = [path.stat().st_mtime for path in results]
    gaps = sorted(step - end for (step, _), end in zip(first_steps[1:], ends, strict=False))
    cpu = statistics.median(seconds for _, seconds in first_steps[1:])
    training = statistics.median(json.loads(path.read_text())["seconds"] for path in results)
    print(f"overhead of a trial: median {statistics.median(gaps):.2f} s, largest {gaps[-1]:.2f} s")
    print(f"  CPU of its process until the first step: {cpu:.2f} s; a run takes {training:.2f} s in all")
    return seconds


def with_trainer(trials: int, folder: Path, more: list[str]) -> float:
    """Let Optuna drive transformers.Trainer in this process; the seconds that it took, without imports."""
    import optuna
    from examples import Collate, Examples
    from programs import bert
    from transformers import Trainer, TrainingArguments

    import lx
    from lx.distributed.rank_info import RankInfo
    from lx.system.hardware import resolve
    from lx.training.builders import build_run

    cfg = lx.compose([*more, "model=tiny", "hardware=cpu", "hardware.threads=1"])
    built = build_run(cfg, resolve("cpu", cfg.hardware.precision, 1, 0, 1), RankInfo.from_environment())
    examples = Examples(built.data)
    held_out = Examples(built.data, 272)

    def objective(trial: optuna.Trial) -> float:
        arguments = TrainingArguments(
            str(folder / str(trial.number)),
            per_device_train_batch_size=cfg.data.batch_size,
            per_device_eval_batch_size=cfg.data.batch_size,
            max_steps=STEPS,
            learning_rate=trial.suggest_float("lr", 1e-4, 2e-4),
            use_cpu=True,
            bf16=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        )
        trainer = Trainer(
            bert(cfg, built.data, built.module.task.num_outputs),
            arguments,
            data_collator=Collate(examples.pad_id),
            train_dataset=examples,
            eval_dataset=held_out,
        )
        trainer.train()
        return float(trainer.evaluate()["eval_loss"])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begun = time.perf_counter()
    optuna.create_study().optimize(objective, n_trials=trials)
    return time.perf_counter() - begun


def main() -> None:
    """Print the overhead, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--singles", type=int, default=3, metavar="N")
    parser.add_argument("--trainer", action="store_true")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(["train", *overrides(args.overrides), f"run_dir={folder / 'first'}"], folder / "others")  # fills the cache
        print(f"{args.trials} trials in a sweep: {sweep(args.trials, folder, args.overrides):.1f} s")
        singles = [
            run(["train", *overrides(args.overrides), f"run_dir={folder / f'single{number}'}"], folder / "others")
            for number in range(args.singles)
        ]
        if singles:
            print(f"{args.trials} times lx train: {statistics.mean(singles) * args.trials:.1f} s")
        if args.trainer:
            seconds = with_trainer(args.trials, folder, args.overrides)
            print(f"{args.trials} trials of Optuna with transformers.Trainer: {seconds:.1f} s")


if __name__ == "__main__":
    main()
