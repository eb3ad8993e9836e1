"""A model with two towers teaches a smaller one how it matches images and texts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import softlab
from softlab.errors import StoreMismatch, UnreadableSample
from softlab.modalities.modality import model_arguments, settle_input
from softlab.sources.source import Source
from tests.modalities.pairs.made import CAPTIONS, write_pairs

TEACHER = softlab.ModelOptions(model="softlab:pairs_towers", arguments={"size": 12, "width": 4})
STUDENT = softlab.ModelOptions(model="softlab:pairs_towers", arguments={"size": 6, "width": 4})
LEARN = softlab.LearnOptions(
    loss=softlab.PairMatchingLoss(teacher_scale=20.0),
    teachers=softlab.TeachersOptions(alpha=1.0),
    optimizer=softlab.OptimizerOptions(learning_rate=0.01),
)


def open_pairs(path: Path) -> Source:
    options = softlab.SourceOptions(path=str(path), fields={"image": "image", "text": "caption"}, key_column="key")
    return softlab.open_source(options, modality="pairs")


def build(options: softlab.ModelOptions, input: softlab.PairInput, *, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return softlab.build_model(options, told=model_arguments(input))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_pairs(write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.parquet"))


@pytest.fixture(scope="module")
def input(source: Source) -> softlab.PairInput:
    settled: softlab.PairInput = settle_input(softlab.PairInput(size=(8, 8), tokenizer="train:60"), source)
    return settled


def dump(source: Source, input: softlab.PairInput, out: Path, *, views: int = 1) -> softlab.Store:
    teacher = softlab.Teacher(module=build(TEACHER, input, seed=0), name="towers", arguments={}, input=input)
    options = softlab.DumpOptions(output=("pair:values",), views=views, device=softlab.DeviceOptions(name="cpu"))
    augment = softlab.PairViews(captions=True) if views > 1 else None
    softlab.dump_teacher(teacher, source, out, options, augment=augment)
    return softlab.open_store(out)


def train(
    source: Source, store: softlab.Store, input: softlab.PairInput, out: Path, *, epochs: int = 30
) -> list[float]:
    """The loss of each epoch of a student that is smaller than its teacher."""
    student = build(STUDENT, input, seed=1)
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=12),
        device=softlab.DeviceOptions(name="cpu", workers=0),
        log=softlab.LogOptions(track=()),
        learn=LEARN,
    )
    valid = softlab.Validation(source=source, store=store)
    (result,) = softlab.train_students({"small": student}, source, [store], options, input=input, valid=valid, out=out)
    assert result.best_by == "pair_recall_at_1"
    assert result.last is not None
    assert softlab.evaluate_model(student, source, store=store, input=input, output="pair") == result.last
    return [json.loads(line)["train_loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_student_of_another_width_learns_which_halves_its_teacher_matches(
    source: Source, input: softlab.PairInput, tmp_path: Path
) -> None:
    store = dump(source, input, tmp_path / "store")

    losses = train(source, store, input, tmp_path / "run")

    assert store.shape_of("pair") == (2, 12)
    assert losses[-1] < losses[0] - 0.2


def test_captions_are_views_which_students_replay(source: Source, input: softlab.PairInput, tmp_path: Path) -> None:
    store = dump(source, input, tmp_path / "store", views=2)

    train(source, store, input, tmp_path / "run", epochs=2)

    first, second = (store.read_features("pair", [0, 1], view=view) for view in (0, 1))
    assert not torch.equal(first[0, 1], second[0, 1]), "its text has two captions"
    assert torch.equal(first[0, 0], second[0, 0]), "its image is the same"
    assert torch.equal(first[1], second[1]), "one caption"


def test_a_changed_caption_is_found(source: Source, input: softlab.PairInput, tmp_path: Path) -> None:
    store = dump(source, input, tmp_path / "store")
    others = [("a red pear",), *CAPTIONS[1:]]
    changed = open_pairs(write_pairs(tmp_path / "changed.parquet", captions=others))

    with pytest.raises(StoreMismatch, match="pair-"):
        train(changed, store, input, tmp_path / "run")


def test_a_pair_without_a_caption_is_unreadable(input: softlab.PairInput, tmp_path: Path) -> None:
    halves = open_pairs(write_pairs(tmp_path / "halves.parquet", captions=[None, *CAPTIONS[1:]]))

    with pytest.raises(UnreadableSample, match="pair-00"):
        dump(halves, input, tmp_path / "store")


def test_a_student_without_two_vectors_is_refused(source: Source, input: softlab.PairInput, tmp_path: Path) -> None:
    store = dump(source, input, tmp_path / "store")
    plain = replace(LEARN, loss=softlab.PairMatchingLoss())

    class OneVector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3 * 8 * 8, 6)

        def forward(self, image: torch.Tensor, **text: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.linear(image.flatten(1))
            return found

    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=1, batch_size=12), device=softlab.DeviceOptions(name="cpu"), learn=plain
    )
    with pytest.raises(StoreMismatch, match=r"pair_matching compares two vectors a sample"):
        softlab.train_students({"one": OneVector()}, source, [store], options, input=input)
