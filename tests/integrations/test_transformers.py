"""Hugging Face's Trainer with stored labels: the loss, what the model is called with, epochs, and evaluation."""

# Shape letters: B samples in a batch, C classes.

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainingArguments

from softlab.errors import InvalidOption, StoreMismatch
from softlab.integrations.transformers import DistillationOptions, DistillationTrainer
from softlab.labels.losses import KlLoss, distillation_loss
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.loading.with_index import with_index
from softlab.store.reader import Store, open_store
from tests.loading.labelled import NUM_CLASSES, dump_rows
from tests.loading.seen import dump_what_is_seen, nameless
from tests.sources.pictures import image_of
from tests.teacher.dumping import Pictures, dump, make_options

COUNT = 12
EVERY = list(range(COUNT))
SOURCE = Pictures(count=COUNT, class_names=None)
ALONE = DistillationOptions(alpha=1.0, loss=KlLoss(temperature=2.0))
MIXED = DistillationOptions(alpha=0.75, loss=KlLoss(temperature=2.0))


class Pixels(Dataset[Any]):
    """As Trainer wants its items: fields named as the model's arguments are, and others."""

    def __init__(self, *, with_targets: bool = True) -> None:
        self.with_targets = with_targets

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"pixel_values": image_of(SOURCE, index).float() / 255, "path": SOURCE.keys[index]}
        return item | ({"labels": index % NUM_CLASSES} if self.with_targets else {})


class Student(nn.Module):
    """Takes nothing but its own arguments, and returns what Trainer wants."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = net or nn.Sequential(nn.Flatten(), nn.Linear(72, NUM_CLASSES))

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        loss = {} if labels is None else {"loss": functional.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return dump_rows(tmp_path_factory.mktemp("trainer") / "store", SOURCE)


@pytest.fixture
def labels(store: Store) -> DatasetLabels:
    return align(store, SOURCE.keys)


def make_trainer(out: Path, labels: DatasetLabels, model: nn.Module | None = None, **options: Any) -> Any:
    """On the CPU, without logs, in batches of 4 by plain gradient descent."""
    arguments = {name: options.pop(name) for name in list(options) if name in TrainingArguments.__dataclass_fields__}
    given = {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 5,
        "num_train_epochs": 1,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return options.pop("kind", DistillationTrainer)(
        model or Student(),
        TrainingArguments(str(out), **(given | arguments)),
        soft_labels=labels,
        **({"train_dataset": with_index(Pixels()), "distillation": MIXED} | options),
    )


def expected_loss(model: Any, labels: DatasetLabels, indices: list[int], *, alpha: float = 0.75) -> Tensor:
    items = [Pixels()[index] for index in indices]
    logits_BC = model.net(torch.stack([item["pixel_values"] for item in items]))
    hard = functional.cross_entropy(logits_BC, torch.tensor([item["labels"] for item in items]))
    return alpha * distillation_loss(logits_BC, labels.read(indices), temperature=2.0) + (1 - alpha) * hard


@pytest.mark.parametrize("distillation", [ALONE, MIXED])
def test_the_loss_is_that_of_the_stored_labels_and_of_the_models_own(
    labels: DatasetLabels, tmp_path: Path, distillation: DistillationOptions
) -> None:
    trainer = make_trainer(tmp_path, labels, distillation=distillation, train_sampling_strategy="sequential")

    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))

    torch.testing.assert_close(loss, expected_loss(trainer.model, labels, [0, 1, 2, 3], alpha=distillation.alpha))


def test_it_trains_on_labels_that_a_plain_trainer_would_drop(labels: DatasetLabels, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, labels, num_train_epochs=30)
    assert trainer.args.remove_unused_columns
    before = expected_loss(trainer.model, labels, EVERY).item()

    trainer.train()

    assert expected_loss(trainer.model, labels, EVERY).item() < 0.7 * before


def test_gradients_of_two_small_batches_add_up_to_those_of_a_large_one(labels: DatasetLabels, tmp_path: Path) -> None:
    models: dict[int, Any] = {0: Student()}
    for size in (6, 12):
        models[size] = Student()
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 12 // size}
        make_trainer(tmp_path, labels, models[size], **options).train()

    torch.testing.assert_close(models[6].state_dict(), models[12].state_dict())
    assert not torch.equal(models[6].net[1].weight, models[0].net[1].weight)


class Watching(TrainerCallback):  # type: ignore[misc]
    """Remembers the epoch of the labels in each step."""

    def __init__(self, labels: DatasetLabels, *, stop_at: int | None = None) -> None:
        self.labels, self.stop_at = labels, stop_at
        self.epochs: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.epochs.append(self.labels.epoch)
        control.should_training_stop = state.global_step == self.stop_at


def test_each_epoch_shows_its_view_also_in_a_run_that_goes_on_in_the_middle_of_one(tmp_path: Path) -> None:
    store = dump_what_is_seen(tmp_path / "store", nameless(COUNT), num_views=3)
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1, "distillation": ALONE}
    epochs = []
    for stop_at in (4, None):
        labels = align(store, SOURCE.keys, views_mismatch="allow")
        watching = Watching(labels, stop_at=stop_at)
        student = Student(nn.Sequential(nn.Flatten(), nn.Linear(72, 72)))
        trainer = make_trainer(tmp_path / "run", labels, student, callbacks=[watching], **options)
        trainer.train(resume_from_checkpoint=stop_at is None)
        epochs.append(watching.epochs)

    assert epochs == [[0, 0, 0, 1], [1, 1, 2, 2, 2]]


def test_evaluation_without_soft_labels_is_trainers_own(labels: DatasetLabels, tmp_path: Path) -> None:
    for dataset in (Pixels(), with_index(Pixels())):
        trainer = make_trainer(tmp_path, labels, eval_dataset=dataset)

        found = trainer.evaluate()["eval_loss"]

        assert found == pytest.approx(expected_loss(trainer.model, labels, EVERY, alpha=0).item())


@pytest.mark.parametrize(("with_targets", "alpha"), [(True, 0.75), (False, 1.0)])
def test_evaluation_with_soft_labels_measures_what_is_learnt(
    labels: DatasetLabels, tmp_path: Path, with_targets: bool, alpha: float
) -> None:
    """Without hard targets the distillation loss alone is left."""
    dataset = with_index(Pixels(with_targets=with_targets))
    trainer = make_trainer(tmp_path, labels, eval_dataset=dataset, eval_soft_labels=labels)

    found = trainer.evaluate()["eval_loss"]

    assert found == pytest.approx(expected_loss(trainer.model, labels, EVERY, alpha=alpha).item())


def test_predictions_need_no_labels_at_all(labels: DatasetLabels, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, labels)

    found = trainer.predict(with_index(Pixels(with_targets=False)))

    assert found.predictions.shape == (COUNT, NUM_CLASSES)
    assert "test_loss" not in found.metrics


def test_a_model_that_answers_at_positions_learns_the_rows_of_all_of_them(tmp_path: Path) -> None:
    dump(tmp_path / "units", make_options(k=3), teacher=nn.Conv2d(3, 5, 1), source=SOURCE)
    labels = align(open_store(tmp_path / "units"), SOURCE.keys)
    dataset = with_index(Pixels(with_targets=False))
    trainer = make_trainer(
        tmp_path / "run",
        labels,
        Student(nn.Conv2d(3, 5, 1)),
        distillation=ALONE,
        train_dataset=dataset,
        eval_dataset=dataset,
        eval_soft_labels=labels,
    )
    before = trainer.evaluate()["eval_loss"]

    trainer.train()

    assert trainer.evaluate()["eval_loss"] < before


def test_a_data_set_that_tells_no_index_is_refused(labels: DatasetLabels, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, labels, train_dataset=Pixels())

    with pytest.raises(StoreMismatch, match=r"Load softlab.with_index\(data set\)"):
        trainer.train()


def test_a_batch_that_lost_its_soft_labels_is_not_trained_on(labels: DatasetLabels, tmp_path: Path) -> None:
    class OtherLoader(DistillationTrainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(Pixels(), batch_size=4, collate_fn=self.data_collator)

    trainer = make_trainer(tmp_path, labels, kind=OtherLoader, remove_unused_columns=False)

    with pytest.raises(StoreMismatch, match="came without soft labels"):
        trainer.train()


def test_options_that_cannot_be_meant_are_refused(labels: DatasetLabels, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="Leave compute_loss_func out"):
        make_trainer(tmp_path, labels, compute_loss_func=lambda *_, **__: None)
    with pytest.raises(InvalidOption, match=r"alpha = 0.0: expected more than 0"):
        DistillationOptions(alpha=0.0)


def test_without_transformers_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "softlab.integrations.transformers")

    with pytest.raises(ImportError, match=r"Install it: pip install 'softlab\[transformers\]'"):
        importlib.import_module("softlab.integrations.transformers")
