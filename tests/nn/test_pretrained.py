from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.errors import LxError
from lx.nn.pooling import CLSPooling, MeanPooling, MeanQueryPooling
from lx.nn.pretrained import PretrainedClassifier

transformers = pytest.importorskip("transformers")

VOCAB, DIM, CLASSES, POSITIONS = 37, 12, 5, 19
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "max_position_embeddings": POSITIONS,
}


def build(path: Path | str, **overrides: Any) -> PretrainedClassifier:
    options: dict[str, Any] = {
        "vocab_size": VOCAB,
        "num_outputs": CLASSES,
        "num_token_types": 2,
        "dropout": 0.0,
        "pooling": MeanPooling,
    }
    return PretrainedClassifier(path=str(path), **options | overrides)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "bert"
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(path)
    return path


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(11) < torch.tensor([[11], [7], [2]])
    token_types = torch.randint(0, 2, (3, 11)) * mask
    return torch.randint(4, VOCAB, (3, 11)) * mask, mask, token_types


def test_logits_are_those_of_the_encoder_pooled(bert: Path) -> None:
    token_ids, mask, token_types = batch()
    reference = transformers.BertModel.from_pretrained(bert).eval()
    hidden = reference(input_ids=token_ids, attention_mask=mask.long(), token_type_ids=token_types).last_hidden_state
    average = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    for pooling, vector in ((CLSPooling, hidden[:, 0]), (MeanPooling, average)):
        net = build(bert, pooling=pooling).eval()
        torch.testing.assert_close(net(token_ids, mask, token_types), net.head(vector), rtol=1e-6, atol=1e-6)


def test_a_pooling_that_takes_part_in_the_last_block_is_refused(bert: Path) -> None:
    with pytest.raises(LxError, match=r"pooling=mean_query.*choose mean"):
        build(bert, pooling=MeanQueryPooling)


def test_padding_does_not_change_logits(bert: Path) -> None:
    net = build(bert).eval()
    token_ids, mask, token_types = batch()
    longer = (torch.nn.functional.pad(tensor, (0, 5)) for tensor in (token_ids, mask, token_types))
    torch.testing.assert_close(net(*longer), net(token_ids, mask, token_types), rtol=1e-5, atol=1e-6)


def test_dropouts_are_on_from_the_start(bert: Path) -> None:
    assert all(module.training for module in build(bert).modules())


def test_gradients_reach_every_parameter(bert: Path) -> None:
    net = build(bert)
    net(*batch()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name


def test_rebuilding_from_the_architecture_reads_nothing(bert: Path) -> None:
    net = build(bert).eval()
    architecture = json.loads(json.dumps(net.architecture()))
    assert str(bert) not in json.dumps(architecture)

    rebuilt = build("/no/such/place", config=architecture).eval()
    rebuilt.load_state_dict(net.state_dict())
    torch.testing.assert_close(rebuilt(*batch()), net(*batch()), rtol=0, atol=0)
    assert rebuilt.architecture() == net.architecture()


def test_segments_go_only_to_models_that_know_them(tmp_path: Path) -> None:
    config = transformers.DistilBertConfig(
        vocab_size=VOCAB, dim=DIM, n_layers=1, n_heads=3, hidden_dim=23, max_position_embeddings=POSITIONS
    )
    transformers.DistilBertModel(config).save_pretrained(tmp_path / "distilbert")
    config = transformers.RobertaConfig(**SIZES, type_vocab_size=1, pad_token_id=0)
    transformers.RobertaModel(config).save_pretrained(tmp_path / "roberta")
    for name in ("distilbert", "roberta"):
        net = build(tmp_path / name).eval()
        token_ids, mask, token_types = batch()
        assert torch.equal(net(token_ids, mask, token_types), net(token_ids, mask))


def test_half_precision_weights_become_float32(bert: Path) -> None:
    transformers.BertModel.from_pretrained(bert).half().save_pretrained(bert)
    assert {parameter.dtype for parameter in build(bert).parameters()} == {torch.float32}


def test_too_many_tokens_are_refused(bert: Path, tmp_path: Path) -> None:
    token_ids = torch.full((1, POSITIONS + 1), 5)
    with pytest.raises(LxError, match=r"20 tokens.*positions for 19.*truncate texts to 19 tokens"):
        build(bert)(token_ids, token_ids > 0)

    config = transformers.RobertaConfig(**SIZES, pad_token_id=1)
    transformers.RobertaModel(config).save_pretrained(tmp_path / "roberta")
    net = build(tmp_path / "roberta")
    assert net(token_ids[:, :17], token_ids[:, :17] > 0).isfinite().all()
    with pytest.raises(LxError, match=r"18 tokens.*positions for 17"):
        net(token_ids[:, :18], token_ids[:, :18] > 0)


def test_a_vocabulary_that_is_too_small_is_refused(bert: Path) -> None:
    with pytest.raises(LxError, match=r"has 37 token ids.*tokenizer 38.*tokenizer=pretrained"):
        build(bert, vocab_size=VOCAB + 1)


def test_places_without_an_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LxError, match=r"^path=.*absent: no encoder.*config.json.*Hugging Face Hub"):
        build(tmp_path / "absent")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(LxError, match=r"no encoder can be loaded"):
        build(tmp_path)


def test_pickled_weights_are_never_read(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    marker = bert / "executed"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (marker.touch, ())

    torch.save({"payload": Payload()}, bert / "pytorch_model.bin")
    with pytest.raises(LxError, match=r"no encoder can be loaded"):
        build(bert)
    assert not marker.exists()


def test_code_that_comes_with_a_model_is_never_run(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    config |= {
        "model_type": "homemade",
        "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"},
    }
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "code.py").write_text(f"open({str(bert / 'executed')!r}, 'w')")
    with pytest.raises(LxError, match=r"no encoder can be loaded"):
        build(bert)
    assert not (bert / "executed").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vit"}, r"type 'vit' is not supported"),
        ({"model_type": "bart", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, r"has a decoder"),
        ({"model_type": "yoso"}, r"type 'yoso' is not supported"),
        ({"hidden_size": 8}, r"type None is not supported"),
        (SIZES | {"model_type": "bert", "num_attention_heads": 5}, r"^config describes no bert"),
    ],
)
def test_configs_of_something_else_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(LxError, match=message):
        build("unused", config=config)


def test_configs_cannot_choose_foreign_kernels_or_code() -> None:
    config = SIZES | {
        "model_type": "bert",
        "attn_implementation": "somebody/kernel",
        "_attn_implementation": "somebody/kernel",
        "auto_map": {"AutoModel": "somebody/code--code.Model"},
        "quantization_config": {"quant_method": "somebody"},
    }
    net = build("unused", config=config)
    assert "somebody" not in repr(net.encoder.config.to_dict())
    assert net.encoder.config._attn_implementation in {"sdpa", "eager"}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LxError, match=r"pip install 'lx\[pretrained\]'"):
        build("unused")
