"""``lx bench``: how fast a configuration trains here, how near that is to what the chip can do, and where time goes."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.profilers import Profiler
from omegaconf import DictConfig
from rich.table import Table
from torch import nn

from lx.bench.contenders import Contender, Speed, peers_of
from lx.bench.timers import Clock, PartWatch, Whispers, wait_for_device
from lx.data.datamodule import TextDataModule
from lx.distributed.rank_info import RankInfo
from lx.kernels.swap import describe_arithmetic
from lx.nn.classifier import TransformerClassifier
from lx.nn.pooling import QueryPooling
from lx.system.console import console
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
from lx.training.trainer import build_trainer

_RATE_SECONDS = 1.0  # of matrix products, for the rate that utilisation is measured against
_NEVER = 10**9  # steps: in a benchmark nothing is validated or saved


@dataclass
class Report:
    """What a benchmark found; the content of the JSON file.

    Attributes:
        device: its name.
        arithmetic: its precision, and whose kernels compute.
        threads: CPU threads.
        batch_size: examples of a step.
        tokens_per_second: real tokens, the median of the rounds.
        examples_per_second: likewise.
        padding: share of the tokens that are padding.
        matmul_flops: of square matrix products on this device in this precision, per second; the median of the rounds.
        utilisation: arithmetic of the real tokens over that rate, measured before each round; the median of the rounds.
        parts: seconds of a step by what they are spent on.
        peak_memory: bytes, of the process on a CPU, of the device elsewhardware.
        contenders: real tokens per second of each round, by name.
        matmul_rounds: the rate of matrix products before each round.
    """

    device: str
    arithmetic: str
    threads: int
    batch_size: int
    tokens_per_second: float
    examples_per_second: float
    padding: float
    matmul_flops: float
    utilisation: float
    parts: dict[str, float]
    peak_memory: int
    contenders: dict[str, list[float]] = field(default_factory=dict)
    matmul_rounds: list[float] = field(default_factory=list)


def bench(cfg: DictConfig, steps: int, warmup: int, rounds: int, peers: Sequence[str] = ()) -> Report:
    """Train a few steps again and again, alternating with other programs if any are named.

    Args:
        cfg: the composed configuration.
        steps: timed in a round.
        warmup: steps before them.
        rounds: how often.
        peers: names of contenders in ``tests/benchmarks/peers.py``.

    Raises:
        LxError: whatever training would have refused; or an unknown peer.
    """
    seed_everything(cfg.seed, workers=True, verbose=False)
    hardware = resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)
    with TemporaryDirectory(prefix="lx-bench-") as scratch, log_to(Path(scratch) / "log.txt"), ExitStack() as stack:
        built = build_run(cfg, hardware)
        data = built.data
        ours = Ours(cfg, data, built.module, hardware, Path(scratch))
        contenders: list[Contender] = [ours]
        contenders += [stack.enter_context(closing(peer)) for peer in peers_of(peers, cfg, hardware, Path(scratch))]
        rates: list[float] = []
        speeds: dict[str, list[Speed]] = defaultdict(list)
        with track("rounds", rounds * len(contenders), "runs") as advance:
            for _ in range(rounds):
                rates.append(matmul_rate(hardware))
                for contender in contenders:
                    speeds[contender.name].append(contender.run(warmup, steps))
                    advance(1)
        parts = ours.parts(warmup, steps)
    middle = sorted(speeds[ours.name], key=lambda speed: speed.tokens_per_second)[rounds // 2]
    flops = ours.flops_per_epoch() / int(data.tables["train"].lengths.sum())  # of a token, on average
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
            speed.tokens_per_second * flops / rate for speed, rate in zip(speeds[ours.name], rates, strict=True)
        ),
        parts=parts,
        peak_memory=_peak_memory(hardware),
        contenders={name: [speed.tokens_per_second for speed in found] for name, found in speeds.items()},
        matmul_rounds=rates,
    )


class Ours:
    """lx's own training, with everything that a run does at every step."""

    name = "lx"

    def __init__(
        self, cfg: DictConfig, data: TextDataModule, module: TextClassifier, hardware: Hardware, scratch: Path
    ) -> None:
        self.cfg = cfg
        self.data = data
        self.module = module
        self.hardware = hardware
        self.scratch = scratch

    def run(self, warmup: int, steps: int) -> Speed:
        """Train as ``lx train`` does, and time the steps after the warmup."""
        clock = Clock(self.hardware, warmup)
        self._fit(warmup + steps, [clock])
        return Speed(clock.seconds, clock.tokens, clock.examples)

    def parts(self, warmup: int, steps: int) -> dict[str, float]:
        """Seconds of a step by what they are spent on, the device waited for between any two."""
        watch = PartWatch(self.hardware, warmup)
        self._fit(warmup + steps, [watch], Whispers(watch))
        return watch.parts()

    def flops_per_epoch(self) -> float:
        """Arithmetic that training on every real token once takes.

        A weight that a token meets costs 2 operations forward and 4 backward (Kaplan et al. 2020, section 2.1); scores
        and their weighted sums cost 12 * layers * width for each pair of tokens of an example. Embeddings are looked
        up, not multiplied. Where only a query attends in the last block, it alone meets its weights, and scores and
        sums there cost 12 * heads * width for each token.
        """
        lengths = self.data.tables["train"].lengths.astype(np.float64)
        embedded = sum(
            p.numel() for m in self.module.net.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
        )
        weights = sum(parameter.numel() for parameter in self.module.net.parameters()) - embedded
        model = self.cfg.model
        num_tokens, num_pairs = lengths.sum(), (lengths**2).sum()
        flops = 6 * weights * num_tokens + 12 * model.get("num_layers", 0) * model.get("dim", 0) * num_pairs
        net = self.module.net
        if isinstance(net, TransformerClassifier) and isinstance(net.pooling, QueryPooling):
            last = sum(parameter.numel() for parameter in net.encoder.blocks[-1].parameters())
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
        trainer.fit(self.module, train_dataloaders=None, datamodule=self.data)


def matmul_rate(hardware: Hardware) -> float:
    """Operations per second of square matrix products, in the precision of the products of training."""
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


def _peak_memory(hardware: Hardware) -> int:
    if hardware.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def show(report: Report) -> None:
    """Print a report."""
    out = console()
    table = Table(title="training speed", title_justify="left", show_header=False)
    table.add_row("hardware", f"{report.device}, {report.arithmetic}, {report.threads} threads")
    table.add_row("real tokens", f"{report.tokens_per_second:,.0f} a second")
    table.add_row("examples", f"{report.examples_per_second:,.1f} a second, {report.batch_size} a step")
    table.add_row("padding", f"{report.padding:.1%} of the tokens")
    table.add_row("matrix products", f"{report.matmul_flops / 1e9:,.0f} GFLOP/s, measured before each round")
    table.add_row("utilisation", f"{report.utilisation:.1%} of that, by the arithmetic of the real tokens")
    table.add_row("peak memory", f"{report.peak_memory / 2**30:.2f} GiB")
    out.print(table)
    whole = sum(report.parts.values())
    parts = Table("part of a step", title=f"{1000 * whole:,.1f} ms a step", title_justify="left")
    parts.add_column("ms", justify="right")
    parts.add_column("share", justify="right")
    for name, seconds in sorted(report.parts.items(), key=lambda item: -item[1]):
        parts.add_row(name, f"{1000 * seconds:,.1f}", f"{seconds / whole:.1%}")
    out.print(parts)
    if len(report.contenders) > 1:
        out.print(_comparison(report))


def _comparison(report: Report) -> Table:
    table = Table("program", title="alternating rounds on the same examples", title_justify="left")
    for heading in ("real tokens/s, median", "slowest to fastest", "lx is"):
        table.add_column(heading, justify="right")
    ours = statistics.median(report.contenders["lx"])
    for name, speeds in report.contenders.items():
        middle = statistics.median(speeds)
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        table.add_row(name, f"{middle:,.0f}", spread, f"{ours / middle:.2f} times as fast")
    return table


def write(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
