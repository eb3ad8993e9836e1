from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from softlab.bench.reading import measure_reading
from softlab.bench.training import StepRate, measure_training
from softlab.errors import InvalidOption, StoreMismatch
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.options import TrainOptions
from tests.loading.labelled import dump_rows, open_rows
from tests.modalities.tokens.llamas import DOCUMENTS
from tests.sources.pictures import encoded, image_rows
from tests.student import language, pictures
from tests.student.flat_options import train_options
from tests.teacher.dumping import Pictures


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the features of the teacher, without, and of augmented views."""
    folder = tmp_path_factory.mktemp("taught")
    pictures.make_store(folder / "features", feature={"mean": "conv:mean", "map": "conv"})
    pictures.make_store(folder / "labels", k=3)
    views = ViewRecipe(transforms=("RandomHorizontalFlip()",))
    pictures.make_store(folder / "views", k=3, views=2, augment=views)
    return folder


def options(**values: Any) -> TrainOptions:
    return pictures.make_options(**values)


def measure(store: Store, *, source: Pictures | None = None, num_classes: int = 5, **values: Any) -> list[StepRate]:
    return measure_training(
        {"small": pictures.make_student(num_classes=num_classes)},
        source or pictures.pictures(),
        store,
        options(**values),
        rounds=1,
        turn_s=0.001,
    )


def test_each_student_is_measured_on_each_kind_of_labels(taught: Path) -> None:
    found = measure_training(
        {"small": pictures.make_student(), "other": pictures.make_student(seed=1)},
        pictures.pictures(),
        open_store(taught / "features"),
        options(),
        rounds=1,
        turn_s=0.001,
    )

    kinds = ["hard", "stored", "stored and features"]
    assert [(rate.student, rate.labels) for rate in found] == [(name, k) for name in ("small", "other") for k in kinds]
    assert [rate.features for rate in found[:3]] == [{}, {}, {"mean": "dropout"}]
    assert all(rate.samples_per_second > 0 and rate.batch_size == 8 for rate in found)
    hard = found[0].samples_per_second
    assert [rate.relative for rate in found[:3]] == [rate.samples_per_second / hard for rate in found[:3]]


def test_named_features_are_learnt_by_the_layers_named(taught: Path) -> None:
    found = measure(open_store(taught / "features"), feature={"map": FeatureLoss(layer="conv", loss="attention")})

    assert found[-1].features == {"map": "conv"}


@pytest.mark.filterwarnings("ignore::softlab.errors.OddSource")
def test_grey_images_among_rgb_ones_are_made_alike_as_in_training(tmp_path: Path) -> None:
    rows = image_rows(16)
    rows[3] |= {"bytes": encoded(Image.new("L", (6, 4)))}
    source = open_rows(tmp_path / "mixed.parquet", rows)
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 4))

    found = measure_training(
        {"small": student}, source, dump_rows(tmp_path / "store", source), options(), rounds=1, turn_s=0.001
    )

    assert [rate.labels for rate in found] == ["hard", "stored"]


def test_without_features_two_ways_are_left(taught: Path) -> None:
    assert [rate.labels for rate in measure(open_store(taught / "labels"))] == ["hard", "stored"]


def test_the_views_of_the_store_are_replayed(taught: Path) -> None:
    assert [rate.labels for rate in measure(open_store(taught / "views"))] == ["hard", "stored"]


def test_the_module_stays_as_it_is(taught: Path) -> None:
    module = pictures.make_student()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    measure_training(
        {"small": module}, pictures.pictures(), open_store(taught / "features"), options(), rounds=1, turn_s=0.001
    )

    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_source_smaller_than_a_batch_is_one_batch(taught: Path) -> None:
    found = measure(open_store(taught / "labels"), batch_size=1000)

    assert found[0].batch_size == pictures.NUM_PICTURES


def test_a_source_that_does_not_match_is_refused(taught: Path) -> None:
    with pytest.raises(StoreMismatch, match="made from 24 samples, but memory:pictures has 30"):
        measure(open_store(taught / "labels"), source=pictures.pictures(count=30))


def test_hard_targets_are_needed(taught: Path) -> None:
    source = Pictures(count=pictures.NUM_PICTURES, class_names=pictures.CLASS_NAMES)

    with pytest.raises(InvalidOption, match="has no hard targets to measure plain steps with"):
        measure(open_store(taught / "labels"), source=source)


def test_a_student_with_too_few_outputs_is_refused(taught: Path) -> None:
    with pytest.raises(StoreMismatch, match=r"student small has 3 outputs, but .* Build the student with num_classes"):
        measure(open_store(taught / "labels"), num_classes=3)


def test_students_of_tokens_are_measured_on_the_text_and_on_stored_rows(tmp_path: Path) -> None:
    source, input = language.open_documents(tmp_path)
    store = language.dump_documents(tmp_path / "store", source, input, teacher=language.small_model(seed=0, scale=3.0))

    found = measure_training(
        {"small": language.small_model(seed=1)},
        source,
        store,
        train_options(batch_size=4, temperature=1.0, device="cpu"),
        input=input,
        rounds=1,
        turn_s=0.001,
    )
    reads = measure_reading(tmp_path / "store", rounds=1)

    assert [(rate.labels, rate.batch_size) for rate in found] == [("hard", 4), ("stored", 4)]
    tokens = sum(len(language.token_ids(text, input)) - 1 for text in DOCUMENTS)
    for read in reads:
        assert read.units_per_second == pytest.approx(read.rows_per_second * tokens / len(DOCUMENTS))
