"""Hugging Face's Trainer with the stored rows of tokens: the loss, accumulated gradients, adapters and evaluation."""

# Shape letters: B samples in a batch, L tokens of the longest one, R rows of all samples, C tokens of the vocabulary.

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import LlamaForCausalLM, TrainingArguments

from softlab.errors import InvalidOption, ModelError, StoreMismatch
from softlab.integrations.transformers import DistillationOptions, DistillationTrainer
from softlab.labels.losses import KlLoss, kl_rows
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.modalities.tokens.inputs import TokensInput
from tests.loading.test_tokens_collator import filled_up
from tests.modalities.tokens.llamas import DOCUMENTS
from tests.student.language import (
    VOCABULARY,
    Whole,
    dump_documents,
    open_documents,
    small_llama,
    small_model,
    token_ids,
)

TEACHER = Whole(small_model(seed=0, scale=3.0)).eval()
MIXED = DistillationOptions(alpha=0.7, loss=KlLoss(temperature=1.0))
ALONE = DistillationOptions(alpha=1.0, loss=KlLoss(temperature=1.0))
EVERY = list(range(len(DOCUMENTS)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetLabels, TokensInput]:
    folder = tmp_path_factory.mktemp("documents")
    source, input = open_documents(folder)
    store = dump_documents(folder / "store", source, input, teacher=TEACHER, coding="float32", k=VOCABULARY)
    return align(store), input


@pytest.fixture
def labels(stored: tuple[DatasetLabels, TokensInput]) -> DatasetLabels:
    return stored[0]


@pytest.fixture(scope="module")
def ids(stored: tuple[DatasetLabels, TokensInput]) -> list[list[int]]:
    return [token_ids(text, stored[1]) for text in DOCUMENTS]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 rows."""
    monkeypatch.setattr("softlab.labels.lazy_logits.CHUNK_BYTES", 20 * 4 * VOCABULARY)


class Documents(Dataset[Any]):
    """As Trainer wants its items, with the key of each."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "sample": str(index), "text": DOCUMENTS[index]}


def make_trainer(
    out: Path, labels: DatasetLabels, ids: list[list[int]], model: nn.Module | None = None, **options: Any
) -> Any:
    """On the CPU, without logs, in batches of 4 by plain gradient descent, in the order of the documents."""
    arguments = {name: options.pop(name) for name in list(options) if name in TrainingArguments.__dataclass_fields__}
    given = {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": len(ids),
        "num_train_epochs": 1,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    own = {"train_dataset": Documents(ids), "distillation": MIXED, "data_collator": filled_up} | options
    return options.pop("kind", DistillationTrainer)(
        model or small_llama(), TrainingArguments(str(out), **(given | arguments)), soft_labels=labels, **own
    )


def expected_loss(model: Any, ids: list[list[int]], which: list[int], *, alpha: float = 0.7) -> Tensor:
    """A mean over the tokens of these documents, each alone, with whole logits."""
    losses = []
    for index in which:
        ids_BL = torch.tensor([ids[index]])
        with torch.no_grad():
            teacher_RC = TEACHER(ids_BL, torch.ones_like(ids_BL))[0, :-1].softmax(dim=1)
        student_RC = model(input_ids=ids_BL).logits[0, :-1, :VOCABULARY].log_softmax(dim=1)
        soft_R = functional.kl_div(student_RC, teacher_RC, reduction="none").sum(dim=1)
        losses.append(alpha * soft_R + (1 - alpha) * functional.nll_loss(student_RC, ids_BL[0, 1:], reduction="none"))
    return torch.cat(losses).mean()


@pytest.mark.parametrize("distillation", [MIXED, ALONE])
def test_the_loss_and_its_gradient_are_those_of_whole_logits(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path, distillation: DistillationOptions
) -> None:
    trainer = make_trainer(tmp_path, labels, ids, distillation=distillation)

    loss = trainer.compute_loss(trainer.model.train(), next(iter(trainer.get_train_dataloader())))
    loss.backward()

    other = small_llama()
    expected = expected_loss(other, ids, [0, 1, 2, 3], alpha=distillation.alpha)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(trainer.model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, atol=1e-6, rtol=1e-4)


def test_gradients_of_small_batches_add_up_to_those_of_a_large_one(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path
) -> None:
    """Though documents differ in length, so that a mean of means would be another."""
    models: dict[int, Any] = {0: small_llama()}
    for size in (2, 8):
        models[size] = small_llama()
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        make_trainer(tmp_path, labels, ids, models[size], **options).train()

    torch.testing.assert_close(models[2].state_dict(), models[8].state_dict())
    assert not torch.equal(models[2].lm_head.weight, models[0].lm_head.weight)


def test_it_trains_and_leaves_the_model_as_it_was_made(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, labels, ids, num_train_epochs=15, learning_rate=1.0)
    before = expected_loss(trainer.model, ids, EVERY).item()

    trainer.train()

    assert expected_loss(trainer.model, ids, EVERY).item() < 0.9 * before
    assert "forward" not in trainer.model.__dict__
    assert trainer.model(input_ids=torch.tensor([ids[0]])).logits.shape == (1, len(ids[0]), 384)


def test_in_bfloat16_the_loss_stays_near(labels: DatasetLabels, ids: list[list[int]], tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, labels, ids, bf16=True)

    trainer.train()

    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(
        make_trainer(tmp_path, labels, ids).train().training_loss, rel=0.02
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_of_adapters_they_alone_learn(labels: DatasetLabels, ids: list[list[int]], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(small_llama(), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    before = {name: each.clone() for name, each in model.state_dict().items()}

    make_trainer(tmp_path, labels, ids, model).train()

    changed = {name for name, each in model.state_dict().items() if not each.equal(before[name])}
    assert changed
    assert all("lora_" in name for name in changed)


@pytest.mark.parametrize("with_labels", [True, False])
def test_evaluation_is_by_the_same_loss_or_the_models_own(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path, with_labels: bool
) -> None:
    def with_targets(items: list[Any]) -> dict[str, Tensor]:
        return filled_up(items, targets=True)

    soft = labels if with_labels else None
    trainer = make_trainer(
        tmp_path, labels, ids, eval_dataset=Documents(ids), eval_soft_labels=soft, data_collator=with_targets
    )

    found = trainer.evaluate()["eval_loss"]

    ids_BL = with_targets([Documents(ids)[index] for index in EVERY])
    own = trainer.model(**ids_BL).loss
    expected = expected_loss(trainer.model, ids, EVERY) if with_labels else own
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_of_another_vocabulary_is_refused(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, labels, ids, small_llama(vocab_size=VOCABULARY - 1))

    with pytest.raises(
        StoreMismatch, match=r"over 320 tokens, and the output layer of LlamaForCausalLM is a Linear of 319"
    ):
        trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))


def test_half_precision_in_which_gradients_would_vanish_is_refused(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path
) -> None:
    with pytest.raises(InvalidOption, match=r"would vanish in float16\. Train with bf16=True, or in float32"):
        make_trainer(tmp_path, labels, ids, fp16=True)


def test_a_model_that_changes_its_logits_in_a_way_of_its_own_is_refused(
    labels: DatasetLabels, ids: list[list[int]], tmp_path: Path
) -> None:
    class Warmer(LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            found = super().forward(*arguments, **named)
            found.logits = found.logits / 2
            return found

    model = small_llama()
    model.__class__ = Warmer
    trainer = make_trainer(tmp_path, labels, ids, model, remove_unused_columns=False)

    with pytest.raises(ModelError, match="its logits differ by"):
        trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))


@pytest.mark.parametrize("distillation", [MIXED, ALONE])
def test_rows_that_are_samples_are_learnt(
    stored: tuple[DatasetLabels, TokensInput],
    ids: list[list[int]],
    tmp_path: Path,
    distillation: DistillationOptions,
) -> None:
    source, _ = open_documents(tmp_path)
    sampled = dump_documents(tmp_path / "store", source, stored[1], teacher=small_model(seed=0, scale=3.0))
    assert sampled.labels.is_sampled
    trainer = make_trainer(tmp_path / "run", align(sampled), ids, distillation=distillation)

    loss = trainer.compute_loss(trainer.model.train(), next(iter(trainer.get_train_dataloader())))

    rows_RC = torch.cat([small_llama()(input_ids=torch.tensor([ids[index]])).logits[0, :-1] for index in range(4)])
    rows_RC = rows_RC[:, :VOCABULARY]
    targets_R = torch.tensor([token for index in range(4) for token in ids[index][1:]])
    soft, hard = (
        kl_rows(rows_RC, sampled.read(range(4)), temperature=1.0).mean(),
        nn.CrossEntropyLoss()(rows_RC, targets_R),
    )
    alpha = distillation.alpha
    torch.testing.assert_close(loss, alpha * soft + (1 - alpha) * hard)
