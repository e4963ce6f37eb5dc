"""Every optimizer with every schedule: composed, saved and resumed, in mixed precision."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lx.optim.groups import parameter_groups
from support.optimizers import CONF, OPTIMIZERS, Net, assert_identical, build, node, seeded_net, train, weights
from support.tiny_run import train_tiny

SCHEDULERS = sorted(path.stem for path in (CONF / "scheduler").glob("*.yaml"))


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
    states = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
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
