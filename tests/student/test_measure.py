from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.store.reader import Store
from softlab.student.evaluate import evaluate
from softlab.student.measure import EvaluateOptions, evaluate_model
from tests.loading.labelled import dump_rows, open_rows
from tests.sources.pictures import image_rows
from tests.student.fashion import FINISHING, NUM_VALID, fashion, make_loader, make_student, make_teacher
from tests.teacher.dumping import make_teacher as make_small_teacher

CPU = EvaluateOptions(device="cpu")


def test_a_model_is_measured_as_students_are_during_training(valid_store: Store) -> None:
    student = make_student(dropout=0.5)
    loader = make_loader(fashion("test"), valid_store)
    expected = evaluate({"model": lambda batch: student.eval()(batch.images_BCHW)}, loader)["model"]

    student.train()
    found = evaluate_model(student, fashion("test"), store=valid_store, finishing=FINISHING, options=CPU)

    assert found == expected


def test_the_demos_teacher_is_as_good_as_its_store_says(valid_store: Store) -> None:
    found = evaluate_model(make_teacher(), fashion("test"), store=valid_store, finishing=FINISHING, options=CPU)

    assert found.rows == NUM_VALID
    assert found.accuracy == valid_store.manifest.statistics.accuracy
    assert found.accuracy is not None
    assert found.accuracy > 0.85
    assert found.teacher_agreement == 1


def test_without_a_store_only_accuracy_is_measured() -> None:
    found = evaluate_model(make_student(), fashion("test"), finishing=FINISHING, options=CPU)

    assert found.accuracy is not None
    assert (found.teacher_agreement, found.teacher_kl) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(EvaluateOptions(device="cpu", channels_last=True), id="channels last"),
        pytest.param(EvaluateOptions(device="cpu", autocast="bfloat16"), id="bfloat16"),
        pytest.param(EvaluateOptions(device="cpu", workers=2), id="workers", marks=pytest.mark.process),
    ],
)
def test_how_it_is_run_changes_nothing_but_rounding(valid_store: Store, options: EvaluateOptions) -> None:
    expected = evaluate_model(make_student(), fashion("test"), store=valid_store, options=CPU)

    found = evaluate_model(make_student(), fashion("test"), store=valid_store, options=options)

    assert found.teacher_kl == pytest.approx(expected.teacher_kl, rel=1e-2)
    assert found.accuracy == pytest.approx(expected.accuracy, abs=0.02)


def test_part_of_the_samples_is_measured_against_their_own_labels(tmp_path: Path) -> None:
    rows = image_rows(10)
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", rows))
    part = open_rows(tmp_path / "part.parquet", [rows[7], rows[2]])

    with pytest.raises(StoreMismatch, match="or say --subset"):
        evaluate_model(make_small_teacher(num_classes=4), part, store=store, options=CPU)
    found = evaluate_model(
        make_small_teacher(num_classes=4), part, store=store, options=replace(CPU, subset=True, verify_inputs="all")
    )

    assert found.teacher_kl == pytest.approx(0, abs=1e-6)
    assert found.rows == 2


def test_a_store_of_other_samples_is_refused(full_store: Store) -> None:
    with pytest.raises(StoreMismatch, match="Point --source at the data the teacher saw"):
        evaluate_model(make_student(), fashion("test"), store=full_store, options=CPU)


def test_a_model_over_other_classes_is_refused(valid_store: Store) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 11))

    with pytest.raises(StoreMismatch, match="Build the student with num_classes = 10"):
        evaluate_model(model, fashion("test"), store=valid_store, options=CPU)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidOption, match="Choose --device auto, cuda"):
        evaluate_model(make_student(), fashion("test"), options=EvaluateOptions(device="cuda:99"))


@pytest.mark.gpu
def test_a_gpu_measures_what_the_cpu_measures(valid_store: Store) -> None:
    expected = evaluate_model(make_teacher(), fashion("test"), store=valid_store, finishing=FINISHING, options=CPU)

    options = EvaluateOptions(device="cuda", workers=2)
    found = evaluate_model(make_teacher(), fashion("test"), store=valid_store, finishing=FINISHING, options=options)

    assert found.accuracy == pytest.approx(expected.accuracy, abs=0.01)
    assert found.teacher_kl == pytest.approx(0, abs=1e-3)
