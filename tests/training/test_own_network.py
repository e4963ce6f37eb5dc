"""Networks of a user's own: what does not fit is refused before training, and what builds its layers late works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lx
from lx.errors import LxError
from lx.inference.load import load_run
from lx.training.own_network import check_network
from support.corpus import write_rows
from support.tiny_run import tiny


class Bag(nn.Module):
    """The smallest network that fits; ``change`` changes what it returns."""

    change: Callable[[Tensor], Any] = staticmethod(lambda logits: logits)

    def __init__(self, vocab_size: int, num_outputs: int, num_token_types: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.output = nn.Linear(4, num_outputs)

    def forward(self, token_ids: Tensor, mask: Tensor, token_types: Tensor | None) -> Any:
        vectors = self.embedding(token_ids) * mask[..., None]
        return self.change(self.output(vectors.sum(dim=1)))


class Late(Bag):
    """Builds one layer by torch's means, and one by its own, in its first call."""

    def __init__(self, vocab_size: int, num_outputs: int, num_token_types: int) -> None:
        super().__init__(vocab_size, num_outputs, num_token_types)
        self.output = nn.LazyLinear(num_outputs)  # type: ignore[assignment]

    def forward(self, token_ids: Tensor, mask: Tensor, token_types: Tensor | None) -> Any:
        if not hasattr(self, "first"):
            self.first = nn.Embedding(8, 4)
        vectors = self.embedding(token_ids) + self.first(token_ids.clamp(max=7))
        return self.output((vectors * mask[..., None]).sum(dim=1))


class Stateful(Bag):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 1}


class Failing(Bag):
    def forward(self, token_ids: Tensor, mask: Tensor, token_types: Tensor | None) -> Any:
        raise RuntimeError("needs another device")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits[:, :2], r"returns torch.float32 \[2, 2\], not logits \[B, C\], here \[2, 3\]"),
        (lambda logits: logits[:, None].expand(-1, 5, -1), r"returns torch.float32 \[2, 5, 3\]"),
        (lambda logits: logits.argmax(dim=1), r"returns torch.int64 \[2\]"),
        (lambda logits: (logits, None), "returns a tuple"),
        (lambda logits: None, "returns a NoneType"),
        (torch.detach, r"no gradient: is there a detach\(\)"),
    ],
)
def test_what_is_no_logits(change: Callable[[Tensor], Any], message: str) -> None:
    net = Bag(9, 3, 1)
    net.change = change  # type: ignore[method-assign]
    with pytest.raises(LxError, match=message):
        check_network(net, 3, has_pairs=False)


@pytest.mark.parametrize(
    ("net", "message"),
    [(print, "builds a builtin_function_or_method, which is no"), (Stateful(9, 3, 1), "holds _extra_state, no tensor")],
)
def test_what_is_no_module_or_cannot_be_saved(net: object, message: str) -> None:
    with pytest.raises(LxError, match=message):
        check_network(net, 3, has_pairs=False)


def test_a_network_is_left_as_it_was() -> None:
    net = nn.Sequential(Bag(9, 3, 1), nn.Dropout())
    net[1].eval()
    with pytest.raises(LxError, match="Frozen"):
        check_network(type("Frozen", (Bag,), {"change": torch.detach})(9, 3, 1), 3, has_pairs=True)
    check_network(net, 3, has_pairs=True)
    check_network(Failing(9, 3, 1), 3, has_pairs=True)
    assert net.training and net[0].training and not net[1].training


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_layers_that_the_first_call_builds_are_trained_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "own_late_package"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "late.yaml").write_text(f"_target_: {module}.Late\n")
    (tmp_path / f"{module}.py").write_text(f"from {__name__} import Late\n")
    monkeypatch.syspath_prepend(tmp_path)
    write_rows(tmp_path / "train.jsonl", 48)
    write_rows(tmp_path / "test.jsonl", 18, start=100)
    overrides = [each for each in tiny(tmp_path) if not each.startswith("model")]
    result = lx.train(lx.compose([*overrides, "model=late"], config_dir=tmp_path))
    net = load_run(tmp_path / "run", trust=[module]).net
    assert result.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert net.first.weight.shape == (8, 4)
