from __future__ import annotations

import pytest
import torch
from torch import nn

from lx.errors import LxError
from lx.optim.groups import parameter_groups


class Net(nn.Module):
    """Something of everything: a bag, a table, norms, a bare matrix, a vector, a matrix tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 7)
        self.bag = nn.EmbeddingBag(13, 7)
        self.norm = nn.LayerNorm((3, 7))
        self.rms = nn.RMSNorm(7)
        self.hidden = nn.Linear(7, 5)
        self.query = nn.Parameter(torch.ones(7))
        self.bare = nn.Parameter(torch.ones(2, 7))
        self.tied = nn.Linear(7, 11, bias=False)
        self.tied.weight = self.table.weight
        self.head = nn.Linear(5, 3)


def test_matrices_alone_are_decayed_and_every_trainable_parameter_is_in_one_group() -> None:
    net = Net()
    decay, no_decay = parameter_groups(net, weight_decay=0.3)

    assert (decay["name"], decay["weight_decay"]) == ("decay", 0.3)
    assert (no_decay["name"], no_decay["weight_decay"]) == ("no_decay", 0.0)
    assert decay["param_names"] == ["bare", "hidden.weight", "head.weight"]
    assert set(no_decay["param_names"]) == {
        "query", "table.weight", "bag.weight", "norm.weight", "norm.bias", "rms.weight",
        "hidden.bias", "head.bias",
    }  # fmt: skip
    named = dict(net.named_parameters())
    grouped = [
        (name, parameter)
        for group in (decay, no_decay)
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    ]
    assert len(grouped) == len(named) == len({id(parameter) for _, parameter in grouped})
    assert all(named[name] is parameter for name, parameter in grouped)


def test_a_matrix_tied_to_a_table_that_comes_later_is_not_decayed() -> None:
    net = nn.Sequential(nn.Linear(7, 11, bias=False), nn.Embedding(11, 7), nn.Linear(5, 7))
    net[0].weight = net[1].weight
    decay, no_decay = parameter_groups(net, weight_decay=0.3)
    assert decay["param_names"] == ["2.weight"]
    assert no_decay["param_names"] == ["0.weight", "2.bias"]


def test_frozen_parameters_are_left_out_and_empty_groups_too() -> None:
    net = Net().requires_grad_(False)
    net.hidden.requires_grad_(True)
    assert [group["param_names"] for group in parameter_groups(net, 0.1)] == [
        ["hidden.weight"],
        ["hidden.bias"],
    ]
    net.hidden.bias.requires_grad_(False)
    assert [group["name"] for group in parameter_groups(net, 0.1)] == ["decay"]


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(LxError, match="no trainable parameter"):
        parameter_groups(Net().requires_grad_(False), 0.1)
