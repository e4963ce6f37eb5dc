"""``lx bench``: training speed on this machine, in relation to its rate of matrix products, and by phases of a step."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.profilers import Profiler
from omegaconf import DictConfig
from torch import nn

from lx.bench.report import Report
from lx.bench.timers import PhaseTimer, ProfilerBridge, StepTimer, wait_for_device
from lx.data.datamodule import TextDataModule
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.kernels.swap import describe_arithmetic
from lx.nn.classifier import TransformerClassifier
from lx.nn.ensemble import members_of
from lx.nn.pooling import QueryPooling
from lx.system.hardware import Hardware, resolve
from lx.system.logging import log_to
from lx.system.progress import track
from lx.tracking.csv import CsvLogger
from lx.training.builders import build_run
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import ProgressBar
from lx.training.callbacks.progress_view import View
from lx.training.module import TextClassifier
from lx.training.run_length import RunLength
from lx.training.seeding import seed_process
from lx.training.trainer import build_trainer

_RATE_SECONDS = 1.0  # of matrix products, for the rate that utilisation is measured against
_STEPS = 20  # timed in a round, at least
_FIRST_WARMUP = 60  # steps of a GPU whose kernels are not loaded yet
_ROUND_SECONDS = 2.0  # of a GPU's round, which 20 steps would not fill
_NEVER = 10**9  # steps: in a benchmark nothing is validated or saved


@dataclass
class Speed:
    """The timed steps of one program in one round; ``tokens`` are real ones, without padding."""

    seconds: float
    tokens: int
    examples: int

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, without padding."""
        return self.tokens / self.seconds


class Program(Protocol):
    """A program that trains on the examples of the configuration."""

    name: str

    def run(self, warmup: int, steps: int) -> Speed:
        """Train, and time the steps after the warmup."""


def bench(cfg: DictConfig, steps: int | None, warmup: int, rounds: int, baselines: Sequence[Program] = ()) -> Report:
    """Measure training speed in several rounds.

    Args:
        cfg: the composed configuration.
        steps: timed steps of a round; None: 20, and on a GPU as many more as make a round last two seconds.
        warmup: steps before them.
        rounds: number of rounds.
        baselines: other programs; each trains once in every round, after lx.

    Raises:
        LxError: training would refuse the configuration.
    """
    seed_process(cfg.seed)
    hardware = resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)
    with TemporaryDirectory(prefix="lx-bench-") as scratch, log_to(Path(scratch) / "log.txt"):
        built = build_run(cfg, hardware)
        if not built.run_length.total_steps:
            raise LxError("model=linear takes no optimizer steps: there is nothing to time")
        cfg, data = built.cfg, built.data
        training = LxTraining(cfg, data, built.module, hardware, Path(scratch))
        programs: list[Program] = [training, *baselines]
        steps = steps or training.steps_of_a_round()
        rates: list[float] = []
        speeds: dict[str, list[Speed]] = defaultdict(list)
        with track("rounds", rounds * len(programs), "runs") as advance:
            for _ in range(rounds):
                rates.append(matmul_rate(hardware))
                for program in programs:
                    speeds[program.name].append(program.run(warmup, steps))
                    advance(1)
        phases = training.phases(warmup, steps)
    middle = sorted(speeds[training.name], key=lambda speed: speed.tokens_per_second)[rounds // 2]
    flops_per_token = training.flops_per_epoch() / int(data.tables["train"].lengths.sum())
    return Report(
        device=hardware.name,
        arithmetic=describe_arithmetic(hardware.precision, built.module.net),
        threads=hardware.threads,
        batch_size=cfg.data.batch_size,
        tokens_per_second=middle.tokens_per_second,
        examples_per_second=middle.examples / middle.seconds,
        padding=data.train_padding_share(),
        matmul_flops=statistics.median(rates),
        utilisation=statistics.median(
            speed.tokens_per_second * flops_per_token / rate
            for speed, rate in zip(speeds[training.name], rates, strict=True)
        ),
        phases=phases,
        peak_memory=training.peak_memory,
        rounds={name: [speed.tokens_per_second for speed in of_program] for name, of_program in speeds.items()},
        matmul_rounds=rates,
    )


@dataclass
class LxTraining:
    """lx's own training, with everything that a run does at every step; files are written to ``scratch``."""

    cfg: DictConfig
    data: TextDataModule
    module: TextClassifier
    hardware: Hardware
    scratch: Path
    name: str = "lx"
    peak_memory: int = 0  # bytes, so far

    def steps_of_a_round(self) -> int:
        """Choose how many steps to time; on a GPU by a first round, which loads its kernels and fills its memory."""
        if self.hardware.device.type == "cpu":
            return _STEPS
        seconds = self.run(_FIRST_WARMUP, _STEPS).seconds
        return max(_STEPS, round(_ROUND_SECONDS / seconds * _STEPS))

    def run(self, warmup: int, steps: int) -> Speed:
        """Train as ``lx train`` does, and time the steps after the warmup."""
        timer = StepTimer(self.hardware, warmup)
        self._fit(warmup + steps, [timer])
        return Speed(timer.seconds, timer.tokens, timer.examples)

    def phases(self, warmup: int, steps: int) -> dict[str, float]:
        """Measure the seconds of each phase of a step, waiting for the device between any two."""
        timer = PhaseTimer(self.hardware, warmup)
        self._fit(warmup + steps, [timer], ProfilerBridge(timer))
        return timer.phases()

    def flops_per_epoch(self) -> float:
        """Count the operations of training on every real token once.

        A weight that a token meets costs 2 operations forward and 4 backward (Kaplan et al. 2020, section 2.1); scores
        and their weighted sums cost 12 * layers * width for each pair of tokens of an example. Embeddings are looked
        up, not multiplied. Where only a query attends in the last block, it alone meets its weights, and scores and
        sums there cost 12 * heads * width for each token.
        """
        net, model = self.module.net, self.cfg.model
        lengths = self.data.tables["train"].lengths.astype(np.float64)
        weights = _num_weights(net) - sum(_num_weights(m) for m in net.modules() if isinstance(m, nn.Embedding))
        num_tokens, num_pairs = lengths.sum(), (lengths**2).sum()
        num_blocks = model.get("num_layers", 0) * len(members_of(net))
        flops = 6 * weights * num_tokens + 12 * num_blocks * model.get("dim", 0) * num_pairs
        for member in members_of(net):
            if isinstance(member, TransformerClassifier) and isinstance(member.pooling, QueryPooling):
                last = _num_weights(member.encoder.blocks[-1])
                flops -= 6 * last * (num_tokens - len(lengths))
                flops -= 12 * model.dim * (num_pairs - model.num_heads * num_tokens)
        return float(flops)

    def _fit(self, steps: int, callbacks: list[Callback], profiler: Profiler | None = None) -> None:
        run_length = RunLength(self.data.steps_per_epoch, steps, _NEVER)
        metric_logger = MetricLogger(run_length)
        progress_bar = ProgressBar(metric_logger, run_length, View())  # computes as in training, but shows nothing
        every = [metric_logger, progress_bar, *callbacks]
        loggers = [CsvLogger(self.scratch / "metrics.csv")]
        trainer = build_trainer(self.cfg, self.hardware, run_length, loggers, every, RankInfo())
        if profiler is not None:
            trainer.profiler = profiler  # type: ignore[attr-defined]
        if self.hardware.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # which the products before each round have raised
        trainer.fit(self.module, train_dataloaders=None, datamodule=self.data)
        self.peak_memory = max(self.peak_memory, _peak_memory(self.hardware))


def matmul_rate(hardware: Hardware) -> float:
    """Measure the operations per second of square matrix products, in the precision of training."""
    dtype = hardware.product_dtype
    size = 1024 if hardware.device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=hardware.device).to(dtype) for _ in range(2))
    fastest, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _RATE_SECONDS:
        wait_for_device(hardware)
        start = time.perf_counter()
        a @ b
        wait_for_device(hardware)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _peak_memory(hardware: Hardware) -> int:
    if hardware.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
