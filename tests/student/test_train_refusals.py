"""Students, sources, stores and options that don't belong together are refused, before a wrong step is made."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import InterpolatedTail, InvalidOption, OddLabels, StoreMismatch
from softlab.labels.losses import LogitMseLoss
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store, open_store
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from softlab.teacher.options import DumpOptions
from tests.loading.labelled import dump_rows, open_rows
from tests.sources.pictures import image_rows
from tests.student.fashion import fashion, make_options, make_student, same_weights, train
from tests.student.pictures import make_store, pictures
from tests.student.pictures import make_student as make_small_student
from tests.student.pictures import train as train_small


@pytest.mark.parametrize(
    ("names", "options"), [([], {}), ([], {"baseline": True}), (["a", "a-hard"], {"baseline": True})]
)
def test_students_without_names_of_their_own_are_refused(
    narrow_store: Store, names: list[str], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOption, match="give each a name of its own under `student`"):
        train({name: make_student() for name in names}, narrow_store, **options)


def test_without_a_store_there_is_no_baseline_to_train() -> None:
    with pytest.raises(InvalidOption, match=r"distil\.baseline: has no effect without a store .* Leave it out"):
        train(make_student(), baseline=True, epochs=1)


@pytest.mark.parametrize("name", ["resume", "../elsewhere", "a/b", "", "run.json", "x" * 65])
def test_a_name_that_cannot_be_a_folder_of_the_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidOption, match="Choose another name"):
        train({name: make_student()}, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_other_samples_is_refused(valid_store: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"Point `source\.path` at the data the teacher saw"):
        train(make_student(), valid_store)


def test_a_validation_store_of_other_samples_is_refused(full_store: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"Point `source\.path` at the data the teacher saw"):
        train(make_student(), valid=full_store)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_is_not_what_the_teacher_saw_never_meets_a_label(tmp_path: Path, workers: int) -> None:
    """Two of 200 have changed places; hashing 64 of them at the start often misses both."""
    rows = image_rows(200)
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "a.parquet", rows))
    rows[150]["bytes"], rows[151]["bytes"] = rows[151]["bytes"], rows[150]["bytes"]
    source = open_rows(tmp_path / "b.parquet", rows)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 4))

    with pytest.raises(StoreMismatch, match="its content hash differs"):
        train_students({"small": model}, source, [store], make_options(workers=workers, batch_size=20))


def test_a_validation_without_anything_to_measure_is_refused(tmp_path: Path) -> None:
    unlabelled = open_rows(tmp_path / "a.parquet", image_rows(8))
    object.__setattr__(unlabelled, "targets", {})

    with pytest.raises(InvalidOption, match=r"Give `valid_store`, or another `valid\.path`"):
        Validation(source=unlabelled)


def test_a_validation_source_of_other_classes_is_refused(tmp_path: Path) -> None:
    source = open_rows(tmp_path / "a.parquet", image_rows(8))
    other = open_rows(tmp_path / "b.parquet", image_rows(8), class_names=("ant", "bee", "cta", "dog"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 4))

    with pytest.raises(StoreMismatch, match=r"'cta' is none of the 4 classes of parquet:a\.parquet .* mean cat"):
        train_students({"small": model}, source, [], make_options(), valid=Validation(source=other))


def test_a_validation_store_of_another_teacher_is_refused(tmp_path: Path, full_store: Store) -> None:
    dump_teacher(make_student(), fashion("test"), tmp_path / "other", DumpOptions(device=DeviceOptions(name="cpu")))

    with pytest.raises(StoreMismatch, match="Dump the validation source with the same teacher"):
        train(make_student(), full_store, valid=open_store(tmp_path / "other"))


def test_a_student_over_other_classes_is_refused(full_store: Store) -> None:
    with pytest.raises(StoreMismatch, match="Build the student with num_classes = 10"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(784, 11)), full_store)


def test_hard_targets_beyond_the_students_outputs_are_refused() -> None:
    with pytest.raises(StoreMismatch, match="Build the student with num_classes = 10 or more"):
        train_students({"small": nn.Sequential(nn.Flatten(), nn.Linear(784, 4))}, fashion(), [])


def test_one_module_as_two_students_is_refused(narrow_store: Store) -> None:
    module = make_student()

    with pytest.raises(InvalidOption, match="Give each a module of its own"):
        train_students({"one": module, "two": module}, fashion(), [narrow_store])


def test_a_temperature_below_the_stored_ones_is_refused(narrow_store: Store) -> None:
    with pytest.raises(InvalidOption, match=r"dump again with 0\.5 among `dump\.temperature`"):
        train(make_student(), narrow_store, temperature=0.5)


def test_a_temperature_that_is_not_stored_is_warned_about(narrow_store: Store) -> None:
    with pytest.warns(InterpolatedTail, match="temperature 3 is not stored"):
        train(make_student(), narrow_store, temperature=3.0, epochs=1)


def test_hard_targets_that_count_other_classes_than_the_teacher_are_not_learnt(tmp_path: Path) -> None:
    source = open_rows(tmp_path / "a.parquet", image_rows(8), class_names=tuple("abcdef"))
    store = dump_rows(tmp_path / "store", source)
    torch.manual_seed(0)
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 4))
    alone = copy.deepcopy(mixed)

    with pytest.warns(OddLabels, match=r"labels of other classes .* left aside"):
        train_students({"small": mixed}, source, [store], make_options(alpha=0.5))
    train_students({"small": alone}, source, [store], make_options(alpha=1.0))

    assert same_weights(mixed, alone)


@pytest.fixture
def one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """As a dump wrote it before it refused such a teacher."""
    monkeypatch.setattr("softlab.teacher.example.check_is_classifier", lambda *_, **__: None)
    return make_store(tmp_path / "store", num_classes=1, source=replace(pictures(), class_names=None, targets_N=None))


def test_one_class_under_a_softmax_is_refused_with_both_ways_out(one_class: Store) -> None:
    student = make_small_student(num_classes=1)

    with pytest.raises(StoreMismatch, match=r"with `dump\.head = sigmoid` and .* regression, say `loss\.name = mse`\."):
        train_small(student, one_class, source=replace(pictures(), class_names=None, targets_N=None), alpha=1.0)


def test_a_regression_of_one_number_is_learnt(one_class: Store) -> None:
    source = replace(pictures(), class_names=None, targets_N=None)
    (result,) = train_small(
        make_small_student(num_classes=1), one_class, source=source, alpha=1.0, loss=LogitMseLoss(), epochs=1
    )

    assert result.error is None
