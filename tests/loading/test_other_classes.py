"""Numbers as labels that are of other classes than the teacher's are left aside, by one rule behind each door."""

# Shape letters: N samples.

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from softlab.errors import OddLabels
from softlab.evaluation.one_model import evaluate_model
from softlab.labels.chance import LabelClasses
from softlab.loading.collator import Collator
from softlab.loading.options import CheckOptions
from softlab.loading.own_loop import align
from softlab.loading.view_dataset import ViewDataset
from softlab.loading.with_index import with_index
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store, open_store
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.job import finalize
from softlab.teacher.planning import as_teacher, plan_dump
from softlab.teacher.survey import survey_teacher
from tests.student.fashion import make_options, same_weights
from tests.teacher.dumping import Pictures, dump, forward_of, make_teacher
from tests.teacher.dumping import make_options as dump_options

COUNT, NUM_LABELS, NUM_CLASSES = 160, 4, 200
LEFT_ASIDE = (
    r"memory:pictures: labels of other classes, left aside: its labels go up to 3, the teacher or model has 200"
)
CPU = DeviceOptions(name="cpu")

TARGETS_N = np.arange(COUNT) % NUM_LABELS
OTHERS = Pictures(count=COUNT, class_names=None, targets_N=TARGETS_N)


def teacher() -> nn.Sequential:
    return make_teacher(num_classes=NUM_CLASSES)


def knowing_teacher() -> nn.Sequential:
    """That says no class but the first four."""
    module = make_teacher(num_classes=NUM_CLASSES)
    with torch.no_grad():
        module.get_parameter("classifier.bias")[NUM_LABELS:] = -1000.0
    return module


def known() -> Pictures:
    """The same pictures with labels that this teacher mostly has right."""
    right_N = forward_of(knowing_teacher(), OTHERS, dump_options()).argmax(dim=1).numpy()
    return replace(OTHERS, targets_N=np.where(np.arange(COUNT) % 5 == 0, TARGETS_N, right_N))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("others") / "store"
    with pytest.warns(OddLabels, match=LEFT_ASIDE) as told:
        dump(out, dump_options(shard_rows=None, batch_size=64), teacher=teacher(), source=OTHERS)
    assert len(told) == 1
    return open_store(out)


def test_a_dump_measures_no_accuracy_by_them(store: Store) -> None:
    assert store.manifest.statistics["logits"].accuracy is None
    assert store.read_samples().targets_N is not None


def test_a_dump_by_shards_does_likewise(tmp_path: Path) -> None:
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        job = plan_dump(teacher(), OTHERS, tmp_path / "store", dump_options(shard_rows=96))
    for number in range(job.num_shards):
        job.run_shard(number)

    assert finalize(tmp_path / "store").statistics["logits"].accuracy is None


def test_a_plan_tells_it() -> None:
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        survey_teacher(as_teacher(teacher()), OTHERS, dump_options())


def test_labels_that_the_teacher_has_right_count(tmp_path: Path) -> None:
    source, out = known(), tmp_path / "store"
    dump(out, teacher=knowing_teacher(), source=source)
    found = evaluate_model(knowing_teacher(), source, store=open_store(out), device=CPU)

    assert open_store(out).manifest.statistics["logits"].accuracy == pytest.approx(0.85, abs=0.1)
    assert found.values["accuracy"] == pytest.approx(0.85, abs=0.1)


@pytest.mark.parametrize(("labels", "counted"), [("same", COUNT), ("other", 0)])
def test_of_a_dump_the_user_may_say_what_labels_are(tmp_path: Path, labels: LabelClasses, counted: int) -> None:
    dump(tmp_path / "store", dump_options(labels=labels), teacher=teacher(), source=OTHERS)

    assert open_store(tmp_path / "store").manifest.statistics["logits"].rows_with_target == counted


def students() -> Iterator[nn.Module]:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, NUM_CLASSES))
    while True:
        yield copy.deepcopy(module)


def test_students_learn_from_the_teacher_alone(store: Store) -> None:
    by_itself, mixed, told, counted = (module for module, _ in zip(students(), range(4), strict=False))
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        train_students({"small": by_itself}, OTHERS, [store], make_options(alpha=1.0))

    with pytest.warns(OddLabels, match="the students learn from the teacher alone"):
        train_students({"small": mixed}, OTHERS, [store], make_options(alpha=0.5))
    half = make_options(alpha=0.5)
    other, same = replace(half, check=CheckOptions(labels="other")), replace(half, check=CheckOptions(labels="same"))
    with pytest.warns(OddLabels, match="the students learn from the teacher alone"):
        train_students({"small": told}, OTHERS, [store], other)
    train_students({"small": counted}, OTHERS, [store], same)

    assert same_weights(mixed, by_itself)
    assert same_weights(told, by_itself)
    assert not same_weights(counted, by_itself)


@pytest.mark.filterwarnings("ignore:.*are also in:softlab.errors.OddSource")
def test_validation_labels_are_left_aside_with_a_store_and_as_those_of_training_without(store: Store) -> None:
    one, two = (module for module, _ in zip(students(), range(2), strict=False))
    options = make_options(alpha=1.0, epochs=1)

    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        (beside,) = train_students(
            {"small": one}, OTHERS, [store], options, valid=Validation(source=OTHERS, store=store)
        )
    with pytest.warns(OddLabels, match="left aside as those of memory:pictures, its training"):
        (alone,) = train_students({"small": two}, OTHERS, [store], options, valid=Validation(source=OTHERS))

    assert beside.best_by == "teacher_bucket_kl"
    assert beside.last is not None
    assert "accuracy" not in beside.last.values
    assert (alone.last, alone.best_by) == (None, None)


@pytest.mark.parametrize("has_store", [True, False])
def test_a_model_has_no_accuracy_by_them(store: Store, has_store: bool) -> None:
    beside = store if has_store else None
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        found = evaluate_model(teacher(), OTHERS, store=beside, device=CPU)
    counted = evaluate_model(teacher(), OTHERS, store=beside, device=CPU, check=CheckOptions(labels="same"))

    assert not {"accuracy", "top5_accuracy", "calibration_error", "teacher_accuracy"} & found.values.keys()
    assert ("teacher_agreement" in found.values) is has_store
    assert counted.values["accuracy"] < 0.05


def test_items_of_stored_views_have_no_target(store: Store) -> None:
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        views = ViewDataset(OTHERS, store)

    assert "target" not in views[0]


def test_an_own_loop_is_told(store: Store) -> None:
    with pytest.warns(OddLabels, match=LEFT_ASIDE):
        labels = align(store, OTHERS)

    targets = [(torch.zeros(2), target % NUM_LABELS) for target in range(COUNT)]
    with pytest.warns(OddLabels, match="your data set: labels of other classes: its labels go up to 3") as told:
        list(DataLoader(with_index(targets), 32, collate_fn=Collator(labels)))

    assert len(told) == 1
