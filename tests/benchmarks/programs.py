"""Other programs that train a Transformer of the same size on the same token ids; ``compare.py`` runs them."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from baselines import serve
from examples import Clock, Collate, Examples
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lx.bench.benchmark import Speed
from lx.bench.timers import wait_for_device
from lx.data.datamodule import TextDataModule
from lx.system.hardware import Hardware, resolve
from lx.training.builders import BuiltRun, build_run


def bert(cfg: DictConfig, data: TextDataModule, num_outputs: int) -> nn.Module:
    """transformers' BERT for classification, of the same size."""
    from transformers import BertConfig, BertForSequenceClassification

    model = cfg.model
    config = BertConfig(
        vocab_size=data.tokenizer.vocab_size,
        hidden_size=model.dim,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        intermediate_size=4 * model.dim,
        max_position_embeddings=cfg.data.max_length,
        pad_token_id=data.tokenizer.pad_id,
        num_labels=num_outputs,
    )
    net: nn.Module = BertForSequenceClassification(config)
    return net


class HuggingFace:
    """transformers.Trainer with BERT."""

    def __init__(
        self, cfg: DictConfig, built: BuiltRun, hardware: Hardware, tuned: bool, compiled: bool = False
    ) -> None:
        self.cfg, self.hardware, self.tuned, self.compiled = cfg, hardware, tuned, compiled
        self.net = bert(cfg, built.data, built.module.task.num_outputs)
        self.examples = Examples(built.data)

    def run(self, warmup: int, steps: int) -> Speed:
        """Train with the library's own loop."""
        from transformers import Trainer as HfTrainer
        from transformers import TrainerCallback, TrainingArguments

        clock, tuned = Clock(self.hardware, warmup, steps), self.tuned

        class Steps(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                clock.step_ended(state.global_step)

        collate = Collate(self.examples.pad_id, None if tuned else self.cfg.data.max_length)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=self.cfg.data.batch_size,
                max_steps=warmup + steps,
                learning_rate=5e-4,
                use_cpu=self.hardware.device.type == "cpu",
                torch_compile=self.compiled,
                bf16=tuned and self.hardware.autocast_dtype is not None,
                train_sampling_strategy="group_by_length" if tuned else "random",
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                logging_steps=10 if tuned else 500,
                remove_unused_columns=False,
            )
            trainer = HfTrainer(
                self.net, arguments, data_collator=collate, train_dataset=self.examples, callbacks=[Steps()]
            )
            trainer.train()
        tokens = sum(collate.num_tokens[warmup : warmup + steps])
        return Speed(clock.seconds, tokens, steps * self.cfg.data.batch_size)


class PlainModule(LightningModule):
    """torch.nn.TransformerEncoder, as a tutorial has it."""

    def __init__(self, cfg: DictConfig, data: TextDataModule, num_outputs: int) -> None:
        super().__init__()
        model = cfg.model
        self.words = nn.Embedding(data.tokenizer.vocab_size, model.dim, padding_idx=data.tokenizer.pad_id)
        self.positions = nn.Embedding(cfg.data.max_length, model.dim)
        layer = nn.TransformerEncoderLayer(
            model.dim, model.num_heads, 4 * model.dim, model.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, model.num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(model.dim, num_outputs)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.encoder(x, src_key_padding_mask=~mask)
        pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        loss = F.cross_entropy(self.head(pooled), batch["labels"])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=5e-4)


class Lightning:
    """A plain LightningModule with shuffled batches, padded to their longest example."""

    def __init__(self, cfg: DictConfig, built: BuiltRun, hardware: Hardware, precision: str) -> None:
        self.cfg, self.hardware, self.precision = cfg, hardware, precision
        self.examples = Examples(built.data)
        self.module = PlainModule(cfg, built.data, built.module.task.num_outputs)

    def run(self, warmup: int, steps: int) -> Speed:
        """Train with Lightning's own loop."""
        clock = Clock(self.hardware, warmup, steps)

        class Steps(Callback):
            def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
                clock.step_ended(trainer.global_step)

        collate = Collate(self.examples.pad_id)
        pinned = self.hardware.device.type == "cuda"
        loader = DataLoader(
            self.examples, self.cfg.data.batch_size, shuffle=True, collate_fn=collate, pin_memory=pinned
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(
                accelerator=self.hardware.accelerator,
                devices=1,
                precision=self.precision,
                max_steps=warmup + steps,
                max_epochs=-1,
                callbacks=[Steps()],
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
            )
            trainer.fit(self.module, loader)
        tokens = sum(collate.num_tokens[warmup : warmup + steps])
        return Speed(clock.seconds, tokens, steps * self.cfg.data.batch_size)


class Bare:
    """A hand-written loop over lx's own model and batches: what no framework could be faster than."""

    def __init__(self, cfg: DictConfig, built: BuiltRun, hardware: Hardware) -> None:
        resolve(hardware.accelerator, hardware.precision, hardware.threads)  # with lx's care for memory
        self.cfg, self.data, self.hardware = cfg, built.data, hardware
        module = built.module.to(hardware.device)
        self.net, self.task = module.net, module.task
        configured = module.configure_optimizers()
        self.optimizer, self.schedule = configured["optimizer"], configured["lr_scheduler"]

    def run(self, warmup: int, steps: int) -> Speed:
        """Forward, backward, clip, step."""
        batches = self._batches()
        for _ in range(warmup):
            self._step(next(batches))
        tokens = examples = 0
        wait_for_device(self.hardware)
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(batches)
            tokens += batch.num_tokens
            examples += batch.num_examples
            self._step(batch)
        wait_for_device(self.hardware)
        return Speed(time.perf_counter() - start, tokens, examples)

    def _batches(self) -> Iterator[Any]:
        while True:
            yield from self.data.train_dataloader()

    def _step(self, batch: Any) -> None:
        self.optimizer.zero_grad()
        for part in batch.to(self.hardware.device).micro_batches:
            with self.hardware.autocast():
                logits = self.net(part.token_ids, part.mask, part.token_types).float()
                loss = self.task.loss(logits, part.labels).sum() / batch.num_examples
            loss.backward()
        if self.cfg.trainer.gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.cfg.trainer.gradient_clip_val)
        self.optimizer.step()
        self.schedule.step()


PROGRAMS: dict[str, dict[str, Callable[[DictConfig, BuiltRun, Hardware], Any]]] = {
    "hf": {
        "transformers, tuned": partial(HuggingFace, tuned=True),
        "transformers, example defaults": partial(HuggingFace, tuned=False),
    },
    "trainer": {
        "transformers, tuned": partial(HuggingFace, tuned=True),
        "transformers, tuned, compiled": partial(HuggingFace, tuned=True, compiled=True),
    },
    "lightning": {
        "lightning, float32": partial(Lightning, precision="32-true"),
        "lightning, bf16": partial(Lightning, precision="bf16-mixed"),
    },
    "bare": {"bare loop": Bare},
}


def prepare(group: str, program: str, settings: dict[str, Any]) -> Callable[[int, int], Speed]:
    """Build a program; returns the function that trains for a round."""
    cfg, hardware = OmegaConf.create(settings["cfg"]), Hardware(**settings["hardware"])
    torch.set_num_threads(hardware.threads)
    seed_everything(cfg.seed, verbose=False)
    run: Callable[[int, int], Speed] = PROGRAMS[group][program](cfg, build_run(cfg, hardware), hardware).run
    return run


if __name__ == "__main__":
    serve(partial(prepare, *sys.argv[1:]))
