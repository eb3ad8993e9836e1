"""Hugging Face's Trainer, learning from a store's soft labels: `pip install 'softlab[transformers]'`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.integrations.token_loss import LOSS, TokenRows, giving_loss
from softlab.labels.losses import DecisionLoss, KlLoss, decision_loss
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.collator import SOFT_LABELS, Collator
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.tokens_collator import IDS, LABELS, SAMPLE, TokensCollator, is_of_tokens
from softlab.loading.tokens_collator import ROWS as TOKEN_ROWS
from softlab.loading.with_index import INDEX, KEY
from softlab.modalities.tokens.shift import tokens_behind
from softlab.models.causal_reader import CausalReader
from softlab.models.forward import LOGITS
from softlab.models.rows import classes_as_rows

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise ImportError(
        "softlab.integrations.transformers needs transformers, which isn't installed. Install it: "
        "pip install 'softlab[transformers]'"
    ) from error

TOLD = (INDEX, KEY, SAMPLE)
"""What items tell of themselves, which is no input of a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationOptions:
    """What a `DistillationTrainer` learns."""

    alpha: float = 0.9
    """Weight of the distillation loss; 1 - alpha is that of the model's own loss, on hard targets."""

    loss: DecisionLoss = field(default_factory=KlLoss)
    """The distillation loss, with its temperature."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise InvalidOption(f"alpha = {self.alpha}: expected more than 0, up to 1. Without labels, use Trainer.")


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is alpha * distillation + (1 - alpha) * what the model's own loss is.

    Its training set tells which samples it loads: `softlab.with_index(dataset)`. Soft labels and index stay out of what
    the model is called with, and each epoch shows its view. The model returns `logits`, [B, C] or with positions, and
    its loss where alpha is below 1.

    Of a store of tokens the items hold `input_ids` and tell their key as `sample`; the model is a causal language model
    of transformers. Its logits are computed some rows at a time, and what is learnt are the tokens that have a row,
    each alike in all batches that gradients are accumulated over.
    """

    data_collator: Any

    def __init__(
        self,
        *arguments: Any,
        soft_labels: DatasetLabels,
        eval_soft_labels: DatasetLabels | None = None,
        distillation: DistillationOptions | None = None,
        **options: Any,
    ) -> None:
        """`soft_labels` are those of the training set; with `eval_soft_labels` the evaluation sets tell their index
        too, and are measured by the same loss. All else is Trainer's. Raises InvalidOption for a loss function."""
        super().__init__(*arguments, **options)
        if self.compute_loss_func is not None:
            raise InvalidOption("DistillationTrainer has a loss of its own. Leave compute_loss_func out.")
        self.soft_labels, self.eval_soft_labels = soft_labels, eval_soft_labels
        self.distillation = distillation or DistillationOptions()
        self._is_of_tokens = is_of_tokens(soft_labels.store)
        self._reader: CausalReader | None = None
        # The loss is a mean over each batch, also where gradients accumulate; of tokens, over all these batches.
        self.model_accepts_loss_kwargs = self._is_of_tokens
        if self._is_of_tokens and self.args.n_gpu > 1:
            raise InvalidOption(
                f"{soft_labels.store.name}: rows of tokens are not shared by {self.args.n_gpu} GPUs in one process. "
                f"Start a process for each, with torchrun or accelerate launch."
            )
        if self._is_of_tokens and self.args.fp16:
            raise InvalidOption(
                f"{soft_labels.store.name}: gradients of rows of tokens are made before Trainer scales the loss, and "
                f"would vanish in float16. Train with bf16=True, or in float32."
            )
        self.add_callback(_TellEpoch(soft_labels))

    def get_train_dataloader(self) -> Any:
        """As Trainer's, with soft labels in each batch."""
        with self._collating(self.soft_labels):
            return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """As Trainer's, with soft labels in each batch where there are some."""
        with self._collating(self.eval_soft_labels):
            return super().get_eval_dataloader(eval_dataset)

    def compute_loss(
        self, model: nn.Module, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """A mean over the rows of the batch. In evaluation without soft labels the model's own loss."""
        own, labels = _take_apart(inputs)
        if labels is None:
            if model.training:
                raise StoreMismatch(
                    f"{self.soft_labels.store.name}: this batch came without soft labels. Leave the batches to "
                    f"DistillationTrainer.get_train_dataloader."
                )
            return super().compute_loss(model, own, return_outputs, num_items_in_batch)
        if TOKEN_ROWS in inputs:
            loss = self._loss_of_tokens(model, own, labels, inputs[TOKEN_ROWS], num_items=num_items_in_batch)
            return (loss, {LOSS: loss}) if return_outputs else loss
        alpha = self.distillation.alpha
        hard, outputs = (0.0, model(**own)) if alpha == 1 else super().compute_loss(model, own, return_outputs=True)
        distillation = self._distillation_loss(_logits_of(outputs), labels, targets_B=own.get("labels"))
        loss = alpha * distillation + (1 - alpha) * hard
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """As Trainer's, which has no loss without hard targets; here that is the distillation loss alone."""
        own, labels = _take_apart(inputs)
        if TOKEN_ROWS in inputs:
            with torch.no_grad():
                return self.compute_loss(model, self._prepare_inputs(dict(inputs))).detach(), None, None
        has_targets = bool(self.label_names) and all(own.get(name) is not None for name in self.label_names)
        if labels is None or has_targets:
            given = own if labels is None else inputs
            return super().prediction_step(model, given, prediction_loss_only, ignore_keys)  # type: ignore[no-any-return]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = _logits_of(model(**self._prepare_inputs(own)))
            loss = self._distillation_loss(logits, labels)
        return loss, None if prediction_loss_only else logits, None

    def _set_signature_columns_if_needed(self) -> None:
        """What Trainer keeps of an item though the model doesn't ask for it."""
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in TOLD if name not in self._signature_columns]

    def _loss_of_tokens(
        self, model: nn.Module, own: dict[str, Any], labels: SoftLabels, rows_R: Tensor, *, num_items: Any
    ) -> Tensor:
        """The sum over the rows of this batch, by how many there are in all batches of the step."""
        own.pop(LABELS, None)
        inner: Any = self.accelerator.unwrap_model(model)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        self._reader = self._reader or self._reader_of(inner)
        learnt = TokenRows(labels=labels.to(rows_R.device), rows_R=rows_R, targets_R=tokens_behind(own[IDS], rows_R))
        alpha, options = self.distillation.alpha, self.distillation.loss
        with (
            giving_loss(inner, self._reader, lambda logits: learnt.loss(logits, alpha=alpha, options=options)),
            self.accelerator.autocast(),
        ):
            loss: Tensor = model(**own)[LOSS]
        if num_items is None:
            return loss / max(len(rows_R), 1)
        shares = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        # A step may have no token that is learnt, as of prompts alone: its loss is 0, and so is what it adds.
        count = num_items.clamp(min=1) if isinstance(num_items, Tensor) else max(num_items, 1)
        mean: Tensor = loss * shares / count
        return mean

    def _reader_of(self, model: nn.Module) -> CausalReader:
        """Raises StoreMismatch for a model whose outputs aren't the tokens of the store."""
        store, inner = self.soft_labels.store, type(model).__name__
        try:
            return CausalReader(model, name=inner, num_classes=store.num_classes, head_dtype="auto")
        except ValueError as error:
            layer: Any = getattr(model, "get_output_embeddings", lambda: None)()
            found = f"{type(layer).__name__} of {getattr(layer, 'out_features', 'no')} outputs"
            raise StoreMismatch(
                f"{store.name}: its rows are over {store.num_classes:,} tokens, and the output layer of {inner} is a "
                f"{found}. Give a causal language model with the teacher's tokenizer, and leave its output layer, a "
                f"plain Linear, out of adapters and quantisation."
            ) from error

    def _distillation_loss(self, logits: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        num_samples = len(labels) if labels.counts_B is None else len(labels.counts_B)
        rows = classes_as_rows(logits, name=LOGITS, num_samples=num_samples).rows
        assert isinstance(rows, Tensor), "of tokens there is another way"
        return decision_loss(rows, labels.to(rows.device), targets_B=targets_B, options=self.distillation.loss)

    @contextmanager
    def _collating(self, labels: DatasetLabels | None) -> Iterator[None]:
        """A loader that is made inside adds these labels."""
        collate = self.data_collator
        if labels is not None:
            kind = TokensCollator if is_of_tokens(labels.store) else Collator
            self.data_collator = kind(labels, collate=collate)
        try:
            yield
        finally:
            self.data_collator = collate


class _TellEpoch(TrainerCallback):  # type: ignore[misc]
    """Tells the labels which epoch begins, also in a run that goes on from a checkpoint."""

    def __init__(self, labels: DatasetLabels) -> None:
        self._labels = labels

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._labels.set_epoch(int(state.epoch or 0))


def _take_apart(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], SoftLabels | None]:
    """What the model is called with, and the soft labels."""
    own = {name: value for name, value in inputs.items() if name not in (*TOLD, SOFT_LABELS, TOKEN_ROWS)}
    return own, inputs.get(SOFT_LABELS)


def _logits_of(outputs: Any) -> Tensor:
    """Of a model that returns them as Trainer wants them: a mapping, or an object that has them."""
    logits: Tensor = outputs[LOGITS] if isinstance(outputs, Mapping) else outputs.logits
    return logits
