from __future__ import annotations

import ctypes
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lx.errors import TrainingError
from lx.run.directory import RunDirectory
from lx.system.hardware import Hardware
from lx.training.micro_batch import largest_micro_batch, micro_batch_size

GPU = Hardware("mps", "32-true", "a GPU with room for a few examples", 1)


class Crowded(torch.nn.Module):
    """Runs out of memory above some number of examples, in the forward or in the backward pass."""

    def __init__(self, room: int, backward: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.room = room
        self.backward = backward
        self.tried: list[int] = []

    def to(self, device: torch.device) -> Crowded:  # type: ignore[override]
        assert device.type == "mps"
        return self

    def losses(self, batch: Longest) -> tuple[torch.Tensor, torch.Tensor]:
        self.tried.append(batch.count)
        logits = self.weight * torch.ones(batch.count)
        if batch.count > self.room:
            logits.register_hook(self._fail) if self.backward else self._fail()
        return logits, logits

    def _fail(self, grad: torch.Tensor | None = None) -> None:
        raise torch.OutOfMemoryError("no room")


class Longest:
    """A batch of the longest examples."""

    labels = None

    def __init__(self, count: int) -> None:
        self.count = count

    def to(self, device: torch.device) -> Longest:
        return self


def data(batch_size: int, world_size: int = 1) -> Any:
    options, loaders = SimpleNamespace(batch_size=batch_size), SimpleNamespace(world_size=world_size, rank=0)
    return SimpleNamespace(options=options, loaders=loaders, longest=Longest)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("room", "tried"), [(100, [37]), (37, [37]), (36, [37, 19]), (7, [37, 19, 10, 5]), (1, [37, 19, 10, 5, 3, 2, 1])]
)
def test_the_share_is_halved_until_it_fits(
    room: int, tried: list[int], backward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    module = Crowded(room, backward)
    assert largest_micro_batch(module, data(37), GPU, 37) == tried[-1]  # type: ignore[arg-type]
    assert module.tried == tried
    assert module.weight.grad is None, "nothing is left of the trial"
    said = [] if tried == [37] else [f"memory runs out with 37 examples at a time: hardware.micro_batch={tried[-1]}"]
    assert caplog.messages == said


def test_the_largest_share_of_several_ranks_is_tried(tmp_path: Path) -> None:
    module = Crowded(100, False)
    assert size(tmp_path, module, data(37, world_size=4)) == 10
    assert module.tried == [10]


def size(folder: Path, module: Crowded, of: Any, hardware: Hardware = GPU, strategy: str = "auto") -> int:
    return micro_batch_size(RunDirectory(folder), module, of, hardware, strategy)  # type: ignore[arg-type]


def test_a_resumed_run_goes_on_with_the_size_that_was_found(tmp_path: Path) -> None:
    """Even where the device has more room, or less, than at the start."""
    assert size(tmp_path, Crowded(10, False), data(37)) == 10
    module = Crowded(100, False)
    assert size(tmp_path, module, data(37)) == 10
    assert module.tried == []


@pytest.mark.parametrize(
    ("of", "hardware"),
    [
        (data(37, world_size=2), GPU),
        (data(37), Hardware("mps", "32-true", "another GPU", 1)),
        (data(37), Hardware("mps", "bf16-mixed", GPU.name, 1)),
    ],
)
def test_other_hardware_is_tried_anew(of: Any, hardware: Hardware, tmp_path: Path) -> None:
    size(tmp_path, Crowded(10, False), data(37))
    module = Crowded(100, False)
    assert size(tmp_path, module, of, hardware) == module.tried[0] > 10


@pytest.mark.parametrize("content", ["[]", '{"micro_batch": 5}', '{"micro_batch": "5"}', "0"])
def test_a_file_of_something_else_is_tried_anew(content: str, tmp_path: Path) -> None:
    (tmp_path / "micro_batch.json").write_text(content)
    assert size(tmp_path, Crowded(100, False), data(37)) == 37
    kept = json.loads((tmp_path / "micro_batch.json").read_text())
    assert kept == {"device": GPU.name, "precision": "32-true", "share": 37, "micro_batch": 37}


def test_a_network_in_shards_is_not_tried_whole(tmp_path: Path) -> None:
    module = Crowded(0, False)
    assert size(tmp_path, module, data(37, 2), strategy="fsdp") == 19
    assert module.tried == [] and not list(tmp_path.iterdir())


def test_not_even_one_example() -> None:
    with pytest.raises(TrainingError, match=r"too small for one example of the longest kind: lower data\.max_length"):
        largest_micro_batch(Crowded(0, False), data(5), GPU, 5)  # type: ignore[arg-type]


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Crowded(100, False)
    monkeypatch.setattr(module, "losses", None)
    with pytest.raises(TypeError):
        largest_micro_batch(module, data(5), GPU, 5)  # type: ignore[arg-type]


def test_on_a_cpu_nothing_is_tried(tmp_path: Path) -> None:
    module = Crowded(0, False)
    assert size(tmp_path, module, data(37, 2), Hardware("cpu", "32-true", "a CPU", 1)) == 19
    assert module.tried == [] and not list(tmp_path.iterdir())


_PAGES_OF_A_STEP = """
import resource, torch
from lx.system import hardware
hardware.resolve("cpu")
def step():
    kept = [torch.ones(4 << 20) for _ in range(16)]  # 256 MiB, freed at the end, as by a backward pass
for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="memory is glibc's to keep")
def test_a_step_finds_the_memory_of_the_step_before() -> None:
    """65,536 pages would be asked for anew otherwise."""
    output = subprocess.run([sys.executable, "-c", _PAGES_OF_A_STEP], capture_output=True, text=True, check=True)
    assert int(output.stdout) < 16_384
