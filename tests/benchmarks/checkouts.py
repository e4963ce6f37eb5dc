"""Training speed of two checkouts of lx, or of one in two settings, side by side.

    git worktree add ../before HEAD~1
    python tests/benchmarks/checkouts.py ../before . model=small
    python tests/benchmarks/checkouts.py . . model=small -- model.dropout=0

Overrides after ``--`` are for the second alone. Each is a process of its own that waits while the other trains: forward
pass, backward pass, clipping and AdamW over made-up texts of several lengths, as long in both. Prints the real tokens a
second of each round, and the median of the rounds' ratios: what disturbs the machine disturbs both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROUNDS = 11
EXAMPLES = 128
LENGTHS = (54, 40, 70, 48)  # tokens of all texts of a step
VOCABULARY = 16_000


def work(overrides: Sequence[str]) -> None:
    """Train four steps for every line that comes in, and answer with the tokens a second."""
    import torch

    import lx
    from lx.config.instantiate import build
    from lx.optim.groups import parameter_groups
    from lx.system import hardware

    cfg = lx.compose(list(overrides))
    here = hardware.resolve(cfg.hardware.accelerator, cfg.hardware.precision, cfg.hardware.threads)
    torch.manual_seed(0)
    model = {name: node for name, node in cfg.model.items() if name != "expert"}  # which is no part of the network
    net = build(model, "model", vocab_size=VOCABULARY, num_outputs=4, num_token_types=1).to(here.device)
    with suppress(ImportError):  # checkouts whose layers choose kernels by themselves
        from lx.kernels.swap import swap_in_kernels

        swap_in_kernels(net, here.device, here.product_dtype)
    optimizer = build(cfg.optimizer, "optimizer")(parameter_groups(net, cfg.optimizer.weight_decay))

    def step(length: int) -> None:
        ids = torch.randint(4, VOCABULARY, (EXAMPLES, length), device=here.device)
        labels = torch.randint(4, (EXAMPLES,), device=here.device)
        optimizer.zero_grad()
        with torch.autocast(here.device.type, here.autocast_dtype, enabled=here.autocast_dtype is not None):
            logits = net(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    for number in range(-2, ROUNDS):
        if number >= 0:
            sys.stdin.readline()
        begun = time.perf_counter()
        for length in LENGTHS:
            step(length)
        if here.device.type == "cuda":
            torch.cuda.synchronize()
        if number >= -1:
            print(EXAMPLES * sum(LENGTHS) / (time.perf_counter() - begun), flush=True)


def start(checkout: Path, overrides: Sequence[str]) -> subprocess.Popen[str]:
    """A process that trains with the lx of a checkout; returns once it has warmed up."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, __file__, "--work", *overrides]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
    )
    answer(process)
    return process


def answer(process: subprocess.Popen[str]) -> float:
    """Tokens a second, when they are measured."""
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        sys.exit(f"it ended with exit code {process.wait()}")
    return float(line)


def main(first: str, second: str, *overrides: str) -> None:
    """A line for each round, then the medians."""
    split = overrides.index("--") if "--" in overrides else len(overrides)
    both, more = overrides[:split], overrides[split + 1 :]
    processes = [start(Path(first), both), start(Path(second), [*both, *more])]
    rounds = []
    for number in range(1, ROUNDS + 1):
        found = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(answer(process))
        rounds.append(found)
        print(f"round {number}: {found[0]:,.0f}  {found[1]:,.0f}  ratio {found[1] / found[0]:.3f}", flush=True)
    one, two = (statistics.median(speeds) for speeds in zip(*rounds, strict=True))
    ratios = [b / a for a, b in rounds]
    print(
        f"median: {one:,.0f}  {two:,.0f}  ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(sys.argv[2:])
    else:
        main(*sys.argv[1:])
