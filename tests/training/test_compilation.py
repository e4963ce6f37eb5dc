"""When a network is compiled, and into how many programs."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from lx.system.hardware import Hardware
from lx.training.compilation import pays_to_compile

GPU = Hardware("cuda", "bf16-mixed", "a GPU", 1)


@pytest.mark.parametrize(
    ("hardware", "steps", "triton", "compiler", "expected"),
    [
        (GPU, 10_000, True, True, True),
        (GPU, 9_999, True, True, False),
        (GPU, 10_000, False, True, False),
        (GPU, 10_000, True, False, False),
        (Hardware("cpu", "32-true", "a CPU", 1), 10_000, True, True, False),
    ],
)
def test_long_runs_are_compiled_on_a_gpu_that_can(
    hardware: Hardware, steps: int, triton: bool, compiler: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lx.training.compilation.find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if compiler else None)
    assert pays_to_compile(hardware, steps) is expected


_COUNT_PROGRAMS = """
import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel

import lx
from lx.config.instantiate import build_network
from lx.training.compilation import compile_for_all_lengths

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
compile_module = torch.nn.Module.compile
for position in ("sinusoidal", "rotary", "alibi"):
    for wrapped in (False, True):
        torch._dynamo.reset()
        counter = CompileCounter()
        torch.nn.Module.compile = lambda net, **options: compile_module(net, backend=counter, **options)
        cfg = lx.compose(["model=small", f"model/position={position}", "model.num_layers=3"])
        net = build_network(cfg.model, vocab_size=37, num_outputs=5, num_token_types=1)
        compile_for_all_lengths(net)
        model = DistributedDataParallel(net, find_unused_parameters=True) if wrapped else net
        for training in (True, False):
            model.train(training)
            for num_tokens in range(16, 80, 8):
                token_ids = torch.full((num_tokens // 4, num_tokens), 5)
                with torch.set_grad_enabled(training):
                    loss = model(token_ids, token_ids > 0).sum()
                if training:
                    loss.backward()
        print(position, wrapped, counter.frame_count)
"""


@pytest.mark.slow
def test_one_program_serves_eight_lengths() -> None:
    """One for training and one for evaluation, alone and under DDP; in a process without jaxtyping's checks."""
    done = subprocess.run([sys.executable, "-c", _COUNT_PROGRAMS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = [line.rpartition(" ")[2] for line in done.stdout.splitlines()]
    assert counts == ["2"] * 6, done.stdout
