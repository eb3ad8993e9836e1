from pathlib import Path

import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption, ModelError, OddLabels, StoreMismatch
from softlab.evaluation.measure import evaluate
from softlab.evaluation.one_model import evaluate_model, first_input, open_inputs
from softlab.loading.options import CheckOptions
from softlab.manifest import InputRecord
from softlab.models.about import AboutWeights, as_metadata
from softlab.models.device import DeviceOptions
from softlab.models.weights import encode_weights
from softlab.store.reader import Store, open_store
from tests.evaluation.pictures import PICTURES
from tests.loading.labelled import CLASS_NAMES, dump_rows, open_rows
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_rows
from tests.student.fashion import INPUT, NUM_VALID, dump, fashion, make_loader, make_student, make_teacher
from tests.teacher.dumping import images_of
from tests.teacher.dumping import make_teacher as make_small_teacher

CPU = DeviceOptions(name="cpu")


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's teacher on test samples: all classes in float32."""
    return dump(tmp_path_factory.mktemp("dumped") / "valid", "test", k=10, coding="float32")


@pytest.fixture
def valid_store(dumped: Path) -> Store:
    return open_store(dumped)


def test_a_model_is_measured_as_students_are_during_training(valid_store: Store) -> None:
    student = make_student(dropout=0.5)
    loader = make_loader(fashion("test"), valid_store)
    expected = evaluate({"model": lambda batch: student.eval()(images_in(batch))}, loader)["model"]

    student.train()
    found = evaluate_model(student, fashion("test"), store=valid_store, input=INPUT, device=CPU)

    assert found == expected


def test_the_demos_teacher_is_as_good_as_its_store_says(valid_store: Store) -> None:
    found = evaluate_model(make_teacher(), fashion("test"), store=valid_store, input=INPUT, device=CPU)

    assert found.rows == NUM_VALID
    assert found.values["accuracy"] == valid_store.manifest.statistics["logits"].accuracy
    assert found.values["accuracy"] > 0.85
    assert found.values["teacher_agreement"] == 1


def test_without_a_store_only_accuracy_and_calibration_are_measured() -> None:
    found = evaluate_model(make_student(), fashion("test"), input=INPUT, device=CPU)

    assert found.values.keys() == {"accuracy", "top5_accuracy", "class_f1", "matthews", "calibration_error"}


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(DeviceOptions(name="cpu", channels_last=True), id="channels last"),
        pytest.param(DeviceOptions(name="cpu", autocast="bfloat16"), id="bfloat16"),
        pytest.param(DeviceOptions(name="cpu", workers=2), id="workers", marks=pytest.mark.process),
    ],
)
def test_how_it_is_run_changes_nothing_but_rounding(valid_store: Store, device: DeviceOptions) -> None:
    expected = evaluate_model(make_student(), fashion("test"), store=valid_store, device=CPU)

    found = evaluate_model(make_student(), fashion("test"), store=valid_store, device=device)

    assert found.values["teacher_kl"] == pytest.approx(expected.values["teacher_kl"], rel=1e-2)
    assert found.values["accuracy"] == pytest.approx(expected.values["accuracy"], abs=0.02)


def test_part_of_the_samples_is_measured_against_their_own_labels(tmp_path: Path) -> None:
    rows = image_rows(10)
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", rows))
    part = open_rows(tmp_path / "part.parquet", [rows[7], rows[2]])

    with pytest.raises(StoreMismatch, match=r"or say `check\.subset = true`"):
        evaluate_model(make_small_teacher(num_classes=4), part, store=store, device=CPU)
    check = CheckOptions(subset=True, verify_inputs="all")
    found = evaluate_model(make_small_teacher(num_classes=4), part, store=store, device=CPU, check=check)

    assert found.values["teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert found.rows == 2


def test_a_store_of_other_samples_is_refused(valid_store: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"Point `source\.path` at the data the teacher saw"):
        evaluate_model(make_student(), fashion("train"), store=valid_store, device=CPU)


def test_a_model_over_other_classes_is_refused(valid_store: Store) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 11))

    with pytest.raises(StoreMismatch, match="Build the student with num_classes = 10"):
        evaluate_model(model, fashion("test"), store=valid_store, device=CPU)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Choose `device\.name` among auto, cuda"):
        evaluate_model(make_student(), fashion("test"), device=DeviceOptions(name="cuda:99"))


@pytest.mark.gpu
def test_a_gpu_measures_what_the_cpu_measures(valid_store: Store) -> None:
    expected = evaluate_model(make_teacher(), fashion("test"), store=valid_store, input=INPUT, device=CPU)

    device = DeviceOptions(name="cuda", workers=2)
    found = evaluate_model(make_teacher(), fashion("test"), store=valid_store, input=INPUT, device=device)

    assert found.values["accuracy"] == pytest.approx(expected.values["accuracy"], abs=0.01)
    assert found.values["teacher_kl"] == pytest.approx(0, abs=1e-3)


def test_the_first_input_is_one_as_the_model_is_given_it() -> None:
    loader = open_inputs(PICTURES, device=CPU, check=CheckOptions())

    (found_BCHW,) = first_input(loader, channels_last=False).tensors()

    assert found_BCHW.equal(images_of(PICTURES, [0]))


def test_a_model_that_gives_nan_has_no_accuracy() -> None:
    broken = make_small_teacher()
    torch.nn.init.constant_(broken.get_submodule("classifier").get_parameter("bias"), float("nan"))

    with pytest.raises(ModelError, match=f"NaN or infinite for {len(PICTURES)} of {len(PICTURES)} rows, .*autocast"):
        evaluate_model(broken, PICTURES, device=CPU)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_gets_its_inputs_in_the_dtype_of_its_weights(dtype: torch.dtype) -> None:
    teacher = make_small_teacher()

    expected = evaluate_model(teacher, PICTURES, device=CPU)
    found = evaluate_model(teacher.to(dtype), PICTURES, device=CPU)

    assert found.values["accuracy"] == pytest.approx(expected.values["accuracy"], abs=0.1)


SWAPPED = (*CLASS_NAMES[1::-1], *CLASS_NAMES[2:])


def test_without_a_store_targets_are_aligned_with_the_models_class_names(tmp_path: Path) -> None:
    source, model = open_rows(tmp_path / "a.parquet", image_rows(40)), make_small_teacher(num_classes=4)
    about = AboutWeights(
        input=InputRecord(field="image", modality="images", options={}), class_names=SWAPPED, recipe={}
    )
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(encode_weights(model.state_dict(), metadata=as_metadata(about)))
    as_it_is = evaluate_model(model, source, device=CPU)

    with pytest.warns(OddLabels, match="aligned by name with those of the model: 4 of 4 there, in another order"):
        told = evaluate_model(model, source, device=CPU, class_names=SWAPPED)
    with pytest.warns(OddLabels, match="aligned by name with those of the model: 4 of 4 there, in another order"):
        by_weights = evaluate_model(model, source, device=CPU, class_names=weights)

    assert told == by_weights != as_it_is


def test_class_names_that_are_none_are_refused(tmp_path: Path) -> None:
    source = open_rows(tmp_path / "a.parquet", image_rows(8))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(encode_weights(make_small_teacher().state_dict()))

    with pytest.raises(InvalidOption, match=r"expected a list of texts, or the model's weights as a Path"):
        evaluate_model(make_small_teacher(num_classes=4), source, device=CPU, class_names="ant")
    with pytest.raises(InvalidOption, match=r"doesn't tell what its classes are called\. Give `class_names`"):
        evaluate_model(make_small_teacher(num_classes=4), source, device=CPU, class_names=weights)
