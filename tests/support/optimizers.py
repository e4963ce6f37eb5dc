"""A small network, and optimizers built for it as a run builds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lx.config.auto import without_auto
from lx.optim.groups import parameter_groups

CONF = Path(__file__).resolve().parents[2] / "conf"


OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))


def node(group: str, option: str, **settings: Any) -> DictConfig:
    """With the values of ``recipe=plain`` where the option leaves them to the data."""
    cfg = OmegaConf.create({group: OmegaConf.load(CONF / group / f"{option}.yaml")})
    return OmegaConf.merge(without_auto(cfg)[group], settings)


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


def train(net: Net, optimizer: torch.optim.Optimizer, scheduler: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        token_ids = torch.randint(23, (11, 5), generator=generator)
        labels = torch.randint(3, (11,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(token_ids), labels).backward()
        optimizer.step()
        scheduler.step()
