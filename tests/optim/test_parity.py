"""Optimizers against formulas and against torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lx.nn.ensemble import Ensemble
from lx.optim.muon import Muon
from support.optimizers import OPTIMIZERS, assert_identical, build, seeded_net, set_gradients, weights

# The update of one parameter w at step t = 1, 2, 3 with gradient g; state starts as {}.


def sgd(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float) -> Tensor:
    """Sutskever et al. 2013 in torch's form: v <- m v + g;  w <- w - lr (g + m v)."""
    momentum = 0.9
    g = g + decay * w
    state["v"] = g if t == 1 else momentum * state["v"] + g
    return w - lr * (g + momentum * state["v"])


def adam(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 1, with the L2 penalty's gradient added to g."""
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    g = g + decay * w
    state["m"] = beta1 * state.get("m", torch.zeros_like(w)) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", torch.zeros_like(w)) + (1 - beta2) * g**2
    mean = state["m"] / (1 - beta1**t)
    variance = state["v"] / (1 - beta2**t)
    return w - lr * mean / (variance.sqrt() + eps)


def adamw(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int, lr: float, decay: float) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2: Adam without the penalty, and w <- w - lr * decay * w."""
    return adam(w, g, state, t, lr, decay=0.0) - lr * decay * w


@pytest.mark.parametrize(("option", "update"), [("sgd", sgd), ("adam", adam), ("adamw", adamw)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_three_steps_by_hand(option: str, update: Callable[..., Tensor], dtype: torch.dtype, tolerance: float) -> None:
    net = seeded_net().to(dtype)
    optimizer = build(option, net, lr=0.05, weight_decay=0.1)
    by_hand = {name: value.double() for name, value in weights(net).items()}
    decays = {name: group["weight_decay"] for group in optimizer.param_groups for name in group["param_names"]}
    states: dict[str, dict[str, Tensor]] = {name: {} for name in by_hand}
    for t in (1, 2, 3):
        set_gradients(net, t)
        for name, parameter in net.named_parameters():
            gradient = parameter.grad.double()
            by_hand[name] = update(by_hand[name], gradient, states[name], t, lr=0.05, decay=decays[name])
        optimizer.step()
    for name, value in weights(net).items():
        torch.testing.assert_close(value.double(), by_hand[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_without_a_gradient_only_the_decayed_parameters_move(option: str) -> None:
    net = seeded_net()
    nn.init.ones_(net.up.bias)
    optimizer = build(option, net, weight_decay=0.1)
    before = weights(net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, value in weights(net).items() if not torch.equal(value, before[name])}
    assert moved == {"up.weight", "down.weight", "head.weight"}


@pytest.mark.parametrize("option", ["adamw", "muon", "radam"])
def test_decoupled_decay_takes_its_share_of_the_weight(option: str) -> None:
    net = seeded_net()
    optimizer = build(option, net, lr=0.5, weight_decay=0.1)
    expected = {name: value * (1 - 0.5 * 0.1) for name, value in weights(net).items()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name in ("up.weight", "down.weight", "head.weight"):
        torch.testing.assert_close(weights(net)[name], expected[name], rtol=1e-6, atol=1e-6)


def test_muon_is_torch_muon_on_hidden_matrices_and_adamw_on_the_rest() -> None:
    ours, theirs = seeded_net(), seeded_net()
    optimizer = build("muon", ours, lr=0.02, weight_decay=0.1)
    hidden = torch.optim.Muon(
        [theirs.up.weight, theirs.down.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    head = torch.optim.AdamW([theirs.head.weight], lr=0.02, weight_decay=0.1, fused=True)
    rest = torch.optim.AdamW(
        [p for name, p in theirs.named_parameters() if p.ndim == 1 or name == "table.weight"],
        lr=0.02, weight_decay=0.0, fused=True,
    )  # fmt: skip
    for step in range(5):
        for net in (ours, theirs):
            set_gradients(net, step)
        for each in (optimizer, hidden, head, rest):
            each.step()
    assert_identical(ours, theirs)
    assert {group["name"]: group["param_names"] for group in optimizer.param_groups} == {
        "hidden": ["up.weight", "down.weight"],
        "decay": ["head.weight"],
        "no_decay": ["table.weight", "norm.weight", "norm.bias", "up.bias", "down.bias", "head.bias"],
    }


def test_muon_leaves_the_output_layer_of_every_member_to_adamw() -> None:
    optimizer = build("muon", Ensemble([seeded_net(), seeded_net()]), lr=0.02)
    names = {group["name"]: group["param_names"] for group in optimizer.param_groups}
    assert names["hidden"] == [f"members.{member}.{name}.weight" for member in (0, 1) for name in ("up", "down")]
    assert names["decay"] == ["members.0.head.weight", "members.1.head.weight"]


def test_muon_leaves_a_net_without_hidden_matrices_to_adamw() -> None:
    ours = nn.Sequential(nn.EmbeddingBag(11, 5), nn.Linear(5, 3))
    theirs = copy.deepcopy(ours)
    pairs = ((ours, build("muon", ours, lr=0.02)), (theirs, build("adamw", theirs, lr=0.02)))
    for step in range(3):
        for net, optimizer in pairs:
            set_gradients(net, step)
            optimizer.step()
    assert_identical(ours, theirs)


def test_muon_without_matrices_at_all_and_without_names() -> None:
    vector = nn.Parameter(torch.ones(5))
    with pytest.raises(ValueError, match="each has a name"):
        Muon([{"params": [vector]}])
    optimizer = Muon([{"name": "no_decay", "params": [vector], "param_names": ["v"], "weight_decay": 0.0}], lr=0.5)

    def closure() -> float:
        loss = (vector**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 5.0
    torch.testing.assert_close(vector.detach(), torch.full((5,), 0.5))
