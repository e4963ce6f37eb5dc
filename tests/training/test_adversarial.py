"""The adversarial pass: how far word embeddings are moved, and what is learned from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lx
from lx.config.instantiate import build_network
from lx.data.batches import Batch, GlobalBatch
from lx.errors import LxError
from lx.nn.embedding import ScaledEmbedding
from lx.tasks.classification import Classification
from lx.training.adversarial import AdversarialEmbeddings, adversarial_move
from support.one_step import InFloat64, with_a_trainer

IDS, LABELS = torch.randint(4, 11, (6, 5), generator=torch.Generator().manual_seed(3)), torch.arange(6) % 3
MASK = torch.arange(5) < torch.tensor([5, 3, 1, 4, 2, 5])[:, None]


def embeddings_with(gradient: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    embeddings = torch.randn(gradient.shape, dtype=torch.float64, requires_grad=True)
    embeddings.grad = gradient
    return embeddings


def test_each_example_moves_along_its_gradient_by_a_share_of_its_length() -> None:
    gradient = torch.randn(6, 5, 4, dtype=torch.float64) * MASK[:, :, None]
    embeddings = embeddings_with(gradient)
    move = adversarial_move(embeddings, MASK, 0.3)
    for row in range(6):
        length = embeddings[row, MASK[row]].norm().item()
        torch.testing.assert_close(move[row], 0.3 * length * gradient[row] / gradient[row].norm())


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30])
def test_only_the_direction_of_the_gradient_counts(scale: float) -> None:
    gradient = torch.randn(2, 5, 4, dtype=torch.float64)
    moves = [adversarial_move(embeddings_with(g), MASK[:2], 0.3) for g in (gradient, scale * gradient)]
    torch.testing.assert_close(*moves)


def test_without_a_gradient_nothing_moves() -> None:
    gradient = torch.zeros(2, 5, 4, dtype=torch.float64)
    gradient[1, 0, 0] = 1.0
    move = adversarial_move(embeddings_with(gradient), MASK[:2], 0.3)
    assert not move[0].any() and move[1].any()


def network(*overrides: str) -> nn.Module:
    cfg = lx.compose(["model=tiny", "model.dim=8", "model.dropout=0", "model.token_dropout=0", *overrides])
    torch.manual_seed(0)
    net: nn.Module = build_network(cfg.model, vocab_size=11, num_outputs=3, num_token_types=1)
    return net.double()


def step(net: nn.Module, cuts: list[int], strength: float | None = None) -> dict[str, torch.Tensor]:
    """Return the gradient of one step over six examples in micro-batches of these sizes."""
    net.zero_grad()
    adversarial = None if strength is None else AdversarialEmbeddings(net, strength)
    module = with_a_trainer(InFloat64(net, Classification(["a", "b", "c"], [2, 2, 2]), adversarial=adversarial))
    rows = torch.arange(6)
    parts = [Batch(IDS[r], MASK[r], LABELS[r], r, None, int(MASK[r].sum())) for r in rows.split(cuts)]
    module.backward_all(GlobalBatch(parts, 6, int(MASK.sum())))
    return {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("overrides", [[], ["model.embedding_dim=4"], ["model.conv_width=3", "model/pooling=mean_max"]])
def test_a_step_learns_half_from_the_embeddings_and_half_from_the_moved_ones(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(*overrides)
    clean, both = step(net, [6]), step(net, [6], 0.3)

    looked_up: list[torch.Tensor] = []
    handle = net.word_embedding.register_forward_hook(lambda layer, inputs, output: looked_up.append(output))
    loss = nn.functional.cross_entropy(net(IDS, MASK, None), LABELS)
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, looked_up[0])
    length = (looked_up[0] * MASK[:, :, None]).flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
    move = (0.3 * length[:, None, None] * gradient).detach()

    original = ScaledEmbedding.forward
    monkeypatch.setattr(ScaledEmbedding, "forward", lambda self, ids: original(self, ids) + move)
    assert nn.functional.cross_entropy(net(IDS, MASK, None), LABELS) > loss
    moved = step(net, [6])
    assert both.keys() == clean.keys() == moved.keys()
    for name, grad in both.items():
        torch.testing.assert_close(grad, (clean[name] + moved[name]) / 2, msg=name)
        assert name.startswith("head") or not torch.allclose(grad, clean[name])


@pytest.mark.parametrize("overrides", [[], ["model.num_members=2"]])
def test_micro_batches_do_not_change_it(overrides: list[str]) -> None:
    whole, cut = (step(network(*overrides), cuts, 0.3) for cuts in ([6], [1, 3, 2]))
    for name, grad in whole.items():
        torch.testing.assert_close(cut[name], grad, rtol=1e-9, atol=1e-14, msg=name)


def test_each_member_moves_by_its_own_gradient() -> None:
    together = step(network("model.num_members=2"), [6], 0.3)
    for number, member in enumerate(network("model.num_members=2").members):  # type: ignore[arg-type, union-attr]
        for name, grad in step(member, [6], 0.3).items():
            torch.testing.assert_close(2 * together[f"members.{number}.{name}"], grad, msg=name)


def test_a_frozen_table_is_moved_and_stays() -> None:
    net = network()
    net.word_embedding.weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    clean, both = step(net, [6]), step(net, [6], 0.3)
    assert "encoder.embedding.word.weight" not in both
    assert not torch.allclose(both["head.weight"], clean["head.weight"])


def test_a_second_loss_that_is_not_finite_is_returned_for_the_guard() -> None:
    """Without clipping there is no gradient norm that would tell."""
    net = network()
    module = InFloat64(net, Classification(["a", "b", "c"], [2, 2, 2]), adversarial=AdversarialEmbeddings(net, 1e308))
    parts = [Batch(IDS[r], MASK[r], LABELS[r], r, None, int(MASK[r].sum())) for r in torch.arange(6).split([4, 2])]
    losses, _ = with_a_trainer(module).backward_all(GlobalBatch(parts, 6, int(MASK.sum())))
    assert [part.isnan().all().item() for part in losses] == [True, True]


def test_no_hook_stays() -> None:
    net = network()
    step(net, [6], 0.3)
    assert not net.word_embedding._forward_hooks


def test_a_network_without_word_embeddings_is_refused() -> None:
    with pytest.raises(LxError, match=r"model\.adversarial: Linear has no layer word_embedding"):
        AdversarialEmbeddings(nn.Linear(2, 2), 0.1)


def test_a_network_that_does_not_call_its_layer_is_refused() -> None:
    cfg = lx.compose(["model=bag", "model.dim=8"])
    bag = build_network(cfg.model, vocab_size=11, num_outputs=3, num_token_types=1).double()
    with pytest.raises(LxError, match="without calling word_embedding"):
        step(bag, [6], 0.3)
