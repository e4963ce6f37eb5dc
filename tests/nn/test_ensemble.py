from __future__ import annotations

import torch
from torch import nn

from lx.data.batches import Batch
from lx.nn.ensemble import Ensemble, members_of
from lx.tasks.classification import Classification
from lx.training.module import TextClassifier


class Sums(nn.Module):
    """Logits are a linear map of the sums of token ids and token types."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor, token_types: torch.Tensor) -> torch.Tensor:
        sums = torch.stack([(token_ids * mask).sum(1), token_types.sum(1)], dim=1)
        return self.head(sums.float())


def batch() -> Batch:
    token_ids = torch.tensor([[1, 2, 9], [4, 0, 1]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    token_types = torch.tensor([[0, 1, 0], [0, 0, 1]])
    return Batch(token_ids, mask, torch.tensor([2, 0]), torch.arange(2), token_types, 5)


def test_the_mean_of_the_members_predicts() -> None:
    torch.manual_seed(0)
    members = [Sums() for _ in range(3)]
    net = Ensemble(members)
    assert members_of(net) == members and members_of(members[0]) == members[:1]
    inputs = batch().token_ids, batch().mask, batch().token_types
    each = torch.stack([member(*inputs) for member in members])
    assert torch.equal(net.train()(*inputs), each.transpose(0, 1))
    assert torch.equal(net.eval()(*inputs), each.mean(dim=0))


def test_each_member_has_the_gradient_of_its_own_loss() -> None:
    torch.manual_seed(0)
    members, task = [Sums() for _ in range(3)], Classification(["a", "b", "c"], [1, 1, 1])
    losses, logits = TextClassifier(Ensemble(members), task).losses(batch())
    losses.sum().backward()
    alone = [TextClassifier(member, task).losses(batch()) for member in members]
    assert torch.allclose(losses, torch.stack([loss for loss, _ in alone]).mean(dim=0))
    assert torch.allclose(logits, torch.stack([own for _, own in alone]).mean(dim=0))
    for member, (loss, _) in zip(members, alone, strict=True):
        (gradient,) = torch.autograd.grad(loss.sum(), member.head.bias)
        assert member.head.bias.grad is not None
        assert torch.allclose(member.head.bias.grad, gradient / 3)
