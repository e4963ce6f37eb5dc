"""The network's numbers on a GPU: against float64 on the CPU, and the dropout that was asked for."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lx
from lx.config.instantiate import build_network
from lx.nn.attention import scaled_dot_product_attention
from lx.system.hardware import resolve

CONF = Path(__file__).parents[2] / "conf" / "model"
GROUPS = [sorted(f"model/{group.name}={file.stem}" for file in group.iterdir()) for group in CONF.glob("*/")]
# Every option of every group at least once, in as few models as the largest group has options.
MODELS = [["model=tiny", *(group[i % len(group)] for group in GROUPS)] for i in range(max(map(len, GROUPS)))]
# Of the Euclidean norms of logits and gradients. On a CPU 3e-7 and 6e-7 are reached, and in bf16 1e-2 and 7e-2.
LARGEST_ERRORS = {"32-true": (1e-6, 2e-6), "bf16-mixed": (2e-2, 1.5e-1)}


def batch() -> tuple[Tensor, Tensor]:
    """Token ids and mask of texts of 1 to 40 tokens."""
    generator = torch.Generator().manual_seed(1)
    token_ids = torch.randint(4, 97, (24, 40), generator=generator)
    mask = torch.arange(40) < torch.randint(1, 41, (24, 1), generator=generator)
    return token_ids * mask, mask


def logits_and_gradients(net: nn.Module, device: torch.device, precision: str) -> tuple[Tensor, Tensor]:
    """The logits, and the gradients of their weighted sum in one vector."""
    token_ids, mask = (tensor.to(device) for tensor in batch())
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        logits = net(token_ids, mask)
    weights = torch.linspace(-1, 1, logits.numel(), device=device, dtype=logits.dtype).view_as(logits)
    (logits * weights).sum().backward()
    gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
    return logits.detach().double().cpu(), torch.cat(gradients).double().cpu()


@pytest.mark.parametrize("precision", LARGEST_ERRORS)
@pytest.mark.parametrize("options", [*MODELS, ["model=bag"]], ids=lambda options: "-".join(options[1:]) or "bag")
def test_logits_and_gradients_of_every_option(options: list[str], precision: str, device: torch.device) -> None:
    resolve(device.type, precision)
    cfg = lx.compose(options)
    torch.manual_seed(0)
    net: nn.Module = build_network(cfg.model, vocab_size=97, num_outputs=5, num_token_types=1).eval()
    expected = logits_and_gradients(copy.deepcopy(net).double(), torch.device("cpu"), "64-true")
    found = logits_and_gradients(net.to(device), device, precision)
    for one, other, largest in zip(found, expected, LARGEST_ERRORS[precision], strict=True):
        assert float((one - other).norm() / other.norm()) < largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("bias_shape", [(16, 1, 1, 64), (16, 4, 64, 64)])
def test_attention_drops_as_many_weights_as_asked(
    bias_shape: tuple[int, ...], probability: float, dtype: torch.dtype, device: torch.device
) -> None:
    """Equal scores give equal weights, and the unit matrix as values shows each weight after dropout."""
    resolve(device.type)
    qkv = torch.zeros(3, 16, 4, 64, 64, dtype=dtype, device=device)
    qkv[2] = torch.eye(64)
    bias = torch.zeros(bias_shape, dtype=dtype, device=device)
    weights = scaled_dot_product_attention(qkv, bias, probability).float() * 64
    kept = weights > 0
    assert float(kept.float().mean()) == pytest.approx(1 - probability, abs=0.004), "262,144 draws: five deviations"
    assert float(weights[kept].mean()) == pytest.approx(1 / (1 - probability), rel=0.01)
    assert float(weights.mean()) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "rotary", "alibi", "none"])
def test_padding_does_not_change_logits(position: str, device: torch.device) -> None:
    resolve(device.type)
    cfg = lx.compose(["model=tiny", f"model/position={position}"])
    torch.manual_seed(0)
    net = build_network(cfg.model, vocab_size=97, num_outputs=5, num_token_types=1).eval().to(device)
    token_ids, mask = (tensor.to(device) for tensor in batch())
    for width in (41, 48, 64):
        longer = (nn.functional.pad(tensor, (0, width - 40)) for tensor in (token_ids, mask))
        with torch.inference_mode():
            torch.testing.assert_close(net(*longer), net(token_ids, mask), rtol=1e-4, atol=1e-6)
