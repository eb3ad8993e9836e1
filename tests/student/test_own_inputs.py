"""Students of one run whose inputs differ."""

# Shape letters: C channels, H height, W width.

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import softlab
from softlab.modalities.images.inputs import ImageInput
from softlab.store.reader import Store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.options import Student
from tests.modalities import text_bytes
from tests.sources.pictures import encoded, picture
from tests.student.fashion import all_but_seconds, same_weights
from tests.student.pictures import make_learn, make_options, make_student, train

Students = dict[str, nn.Module | Student]

LARGE = ImageInput(size=(8, 12), mean=(0.2,))
FEATURE = {"mean": FeatureLoss(layer="conv:mean")}


def student_of(size: tuple[int, int], *, seed: int = 0) -> nn.Module:
    """For images of that size, with a layer `conv`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(3, 4, 3, padding=1))
        layers.add_module("flatten", nn.Flatten())
        layers.add_module("classifier", nn.Linear(4 * size[0] * size[1], 5))
        return layers


@pytest.mark.parametrize("options", [{}, {"feature": FEATURE}], ids=["labels", "features"])
def test_students_of_other_sizes_share_a_run_and_are_those_trained_alone(
    first: Store, tmp_path: Path, options: dict[str, Any]
) -> None:
    small, large = student_of((4, 6)), student_of((8, 12))
    students: Students = {"small": small, "large": Student(module=large, learn=make_learn(**options), input=LARGE)}

    together = train(students, first, valid=first, out=tmp_path / "run", **options)

    alone_small, alone_large = student_of((4, 6)), student_of((8, 12))
    (expected_small,) = train({"small": alone_small}, first, valid=first, **options)
    large_student = Student(module=alone_large, learn=make_learn(**options), input=LARGE)
    (expected_large,) = train({"large": large_student}, first, valid=first, **options)
    assert same_weights(small, alone_small)
    assert same_weights(large, alone_large)
    assert [all_but_seconds(result) for result in together] == [
        all_but_seconds(expected_small),
        all_but_seconds(expected_large),
    ]


def test_a_run_with_another_input_does_not_go_on_from_its_checkpoint(first: Store, tmp_path: Path) -> None:
    train({"small": Student(module=make_student())}, first, out=tmp_path / "run")
    other = Student(module=make_student(), input=ImageInput(mean=(0.1,)))

    with pytest.raises(softlab.SoftlabError, match="input"):
        train({"small": other}, first, out=tmp_path / "run")


def test_a_student_of_text_learns_from_a_teacher_of_images(tmp_path: Path) -> None:
    table = {
        "photo": pa.array([encoded(picture(seed=seed)) for seed in range(12)]),
        "caption": pa.array([f"picture {seed % 3}" for seed in range(12)]),
        "label": pa.array([seed % 3 for seed in range(12)]),
    }
    pq.write_table(pa.table(table), tmp_path / "pairs.parquet")
    fields = {"image": "photo", "text": "caption"}
    source = softlab.open_source(softlab.SourceOptions(path=str(tmp_path / "pairs.parquet"), fields=fields))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 3))
    cpu = softlab.DeviceOptions(name="cpu")
    softlab.dump_teacher(teacher, source, tmp_path / "store", softlab.DumpOptions(device=cpu))
    options = make_options(batch_size=4)
    reader = Student(module=text_bytes.bag_of_words(), input=text_bytes.TextInput())

    alone: Students = {"reader": reader}
    both: Students = {"reader": reader, "seer": nn.Sequential(nn.Flatten(), nn.Linear(72, 3))}
    for students in (alone, both):
        results = softlab.train_students(students, source, [softlab.open_store(tmp_path / "store")], options)
        assert [result.error for result in results] == [None] * len(students)
