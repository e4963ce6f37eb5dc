"""Optimizers and schedules, built as a run builds them, against formulas and against torch's own."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lx.optim import schedules
from lx.optim.groups import parameter_groups
from lx.optim.muon import Muon
from support.tiny_run import train_tiny

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
SCHEDULERS = sorted(path.stem for path in (CONF / "scheduler").glob("*.yaml"))


def node(group: str, option: str, **settings: Any) -> DictConfig:
    return OmegaConf.merge(OmegaConf.load(CONF / group / f"{option}.yaml"), settings)


def build(option: str, net: nn.Module, **settings: Any) -> torch.optim.Optimizer:
    """As the worker does it."""
    cfg = node("optimizer", option, **settings)
    return instantiate(cfg)(parameter_groups(net, cfg.weight_decay))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(23, 7)
        self.norm = nn.LayerNorm(7)
        self.up = nn.Linear(7, 13)
        self.down = nn.Linear(13, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, token_ids: Tensor) -> Tensor:
        return self.head(self.down(self.up(self.norm(self.table(token_ids))).relu()).mean(dim=1))


def seeded_net() -> Net:
    torch.manual_seed(3)
    return Net()


def set_gradients(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def assert_identical(actual: nn.Module, expected: nn.Module) -> None:
    for (name, a), b in zip(actual.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b), name


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


def train(net: Net, optimizer: torch.optim.Optimizer, scheduler: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        token_ids = torch.randint(23, (11, 5), generator=generator)
        labels = torch.randint(3, (11,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(token_ids), labels).backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_a_saved_optimizer_goes_on_to_identical_weights(option: str) -> None:
    def fresh() -> tuple[Net, torch.optim.Optimizer, Any]:
        net = seeded_net()
        optimizer = build(option, net)
        return net, optimizer, instantiate(node("scheduler", "cosine"))(optimizer, total_steps=7)

    whole = fresh()
    train(*whole, range(7))

    net, optimizer, scheduler = fresh()
    train(net, optimizer, scheduler, range(3))
    file = io.BytesIO()
    states = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(states, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = fresh()
    for part, key in zip(resumed, ("net", "optimizer", "scheduler"), strict=True):
        part.load_state_dict(saved[key])
    train(*resumed, range(3, 7))
    assert_identical(resumed[0], whole[0])
    assert not torch.equal(resumed[0].up.weight, net.up.weight)


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_a_run_clips_gradients_in_mixed_precision(option: str, tmp_path: Path) -> None:
    norms: list[float] = []

    def record_norm(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(nn.utils.get_total_norm(gradients).item())

    handle = register_optimizer_step_pre_hook(record_norm)
    try:
        train_tiny(
            tmp_path,
            *[f"optimizer={option}", "hardware.precision=bf16-mixed", "trainer.gradient_clip_val=1e-3"],
            "trainer.max_steps=2",
        )
    finally:
        handle.remove()
    assert len(norms) >= 2
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("option", ["adam", "adamw", "muon"])
def test_loss_scaling_is_undone_before_a_fused_step(option: str) -> None:
    scaled, plain = seeded_net(), seeded_net()
    token_ids, labels = torch.arange(22).view(11, 2), torch.arange(11) % 3
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # a power of two: exact
    for net in (scaled, plain):
        optimizer = build(option, net)
        loss = nn.functional.cross_entropy(net(token_ids), labels)
        if net is scaled:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
        else:
            loss.backward()
            optimizer.step()
    assert_identical(scaled, plain)


@pytest.mark.parametrize(
    ("factory", "decay"),
    [
        (schedules.cosine, lambda optimizer: CosineAnnealingLR(optimizer, T_max=26, eta_min=0.03)),
        (schedules.linear, lambda optimizer: LinearLR(optimizer, 1.0, 0.1, total_iters=26)),
    ],
)
def test_schedules_equal_torchs_own_after_a_linear_warmup(factory: Any, decay: Any) -> None:
    (multiplier,) = factory(torch.optim.SGD([nn.Parameter(torch.ones(3))]), 31, 5, min_ratio=0.1).lr_lambdas
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.3)
    warmup = LinearLR(optimizer, start_factor=1 / 6, total_iters=5)
    torchs = SequentialLR(optimizer, [warmup, decay(optimizer)], milestones=[5])
    for step in range(31):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * multiplier(step), rel=1e-6), step
        optimizer.step()
        torchs.step()


def test_inverse_sqrt_is_the_papers_formula() -> None:
    """Vaswani et al. 2017, equation 3, with d_model = 512 and 4000 warmup steps; the peak is at step 4000."""

    def paper(step: int) -> float:
        return 512**-0.5 * min(step**-0.5, step * 4000**-1.5)

    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=paper(4000))
    scheduler = instantiate(node("scheduler", "inverse_sqrt", warmup=3999))(optimizer, total_steps=100_000)
    multiplier = scheduler.lr_lambdas[0]
    for step in (1, 2, 777, 3999, 4000, 4001, 50_000, 100_000):
        assert paper(4000) * multiplier(step - 1) == pytest.approx(paper(step), rel=1e-12)


def test_there_are_options_to_compose() -> None:
    assert {"sgd", "adam", "adamw", "muon"} <= set(OPTIMIZERS)
    assert SCHEDULERS == ["constant", "cosine", "inverse_sqrt", "linear", "wsd"]


@pytest.mark.parametrize("option", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_every_optimizer_composes_with_every_scheduler(option: str, schedule: str, tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text(
        f"defaults: [_self_, optimizer: {option}, scheduler: {schedule}]\nhydra: {{searchpath: ['{CONF.as_uri()}']}}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base=None):
        cfg = compose("main", overrides=["optimizer.lr=2e-3", "optimizer.weight_decay=0.05", "scheduler.warmup=2"])
    net = seeded_net()
    optimizer = instantiate(cfg.optimizer)(parameter_groups(net, cfg.optimizer.weight_decay))
    scheduler = instantiate(cfg.scheduler)(optimizer, total_steps=11)
    for group in optimizer.param_groups:
        assert group["initial_lr"] == 2e-3
        assert group["lr"] == pytest.approx(2e-3 / 3)
        assert group["weight_decay"] == (0.0 if group["name"] == "no_decay" else 0.05)
    train(net, optimizer, scheduler, range(3))
    assert all(math.isfinite(value.sum()) for value in weights(net).values())


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_an_options_rate_and_decay_are_numbers(option: str) -> None:
    cfg = node("optimizer", option)
    assert isinstance(cfg.lr, float) and cfg.lr > 0
    assert isinstance(cfg.weight_decay, float)
