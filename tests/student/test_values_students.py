"""Students whose own output learns stored values: embeddings and scores, without any classes."""

# Shape letters: B rows in a batch, D numbers of a vector.

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import InvalidOption, ModelError, StoreMismatch, TeacherError
from softlab.labels.losses import KlLoss, ValuesLoss
from softlab.labels.losses.values import (
    CosineLoss,
    MarginMseLoss,
    RelationalLoss,
    SimilarityKlLoss,
    VectorKlLoss,
    VectorMseLoss,
)
from softlab.loading.order import ShuffledBatches
from softlab.models import load_weights
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.options import Student
from softlab.student.search import SearchOptions, search
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from tests.student.fashion import all_but_seconds, same_weights
from tests.student.pictures import (
    NUM_PICTURES,
    make_learn,
    make_options,
    make_store,
    make_student,
    pictures,
    train,
    train_interrupted,
)
from tests.teacher.dumping import images_of
from tests.teacher.dumping import make_options as make_dump_options

WIDTH = 6
LOSSES: list[ValuesLoss] = [
    VectorMseLoss(),
    CosineLoss(prefixes=(2, 4)),
    RelationalLoss(),
    SimilarityKlLoss(),
    VectorKlLoss(temperature=2.0),
    MarginMseLoss(),
]
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of embeddings alone (`vectors`), of classes alone (`classes`), and of both and another one (`both`)."""
    folder = tmp_path_factory.mktemp("values")
    whole: dict[str, Any] = {"values_coding": "float32", "num_classes": WIDTH}
    make_store(folder / "vectors", output=("embedding:values",), **whole)
    make_store(folder / "classes", num_classes=WIDTH)
    make_store(folder / "both", output=("logits", "embedding:values"), feature={"hidden": "flatten"}, **whole)
    return folder


@pytest.fixture
def vectors(folder: Path) -> Store:
    return open_store(folder / "vectors")


def embedder(width: int = WIDTH, **options: Any) -> nn.Module:
    return make_student(num_classes=width, **options)


def learn_values(loss: ValuesLoss, **options: Any) -> dict[str, Any]:
    return {"loss": loss, "alpha": 1.0} | options


def test_training_is_that_of_plain_torch_code_on_the_stored_vectors(vectors: Store) -> None:
    student, by_hand = embedder(), embedder()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05)
    by_hand.train()
    for rows in ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=3, seed=0):
        given_BD, stored_BD = (
            by_hand(images_of(pictures(), rows.source_B.tolist())),
            vectors.read_features("embedding", rows.source_B),
        )
        loss = 1 - functional.cosine_similarity(given_BD, stored_BD).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    train(student, vectors, **learn_values(CosineLoss()), **SGD)

    for name, weight in by_hand.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_each_loss_on_values_brings_a_student_nearer_to_its_teacher(vectors: Store, loss: ValuesLoss) -> None:
    (first,) = train(embedder(), vectors, epochs=1, **learn_values(loss))
    (last,) = train(embedder(), vectors, epochs=25, **learn_values(loss))

    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < 0.7 * first.train_loss


def test_a_student_of_another_width_has_a_projector_that_is_no_part_of_its_weights(
    vectors: Store, tmp_path: Path
) -> None:
    student = embedder(3)

    (result,) = train(student, vectors, valid=vectors, out=tmp_path / "run", epochs=20, **learn_values(VectorMseLoss()))

    saved = embedder(3, seed=1)
    load_weights(saved, tmp_path / "run" / "small" / "last.safetensors")
    assert same_weights(saved, student)
    assert result.last is not None
    assert set(result.last.values) == {"teacher_overlap", "neighbour_accuracy"}


def test_a_student_of_vectors_is_measured_against_the_stored_ones_and_has_no_accuracy(vectors: Store) -> None:
    (result,) = train(embedder(), vectors, valid=vectors, **learn_values(CosineLoss()))

    assert result.last is not None
    assert set(result.last.values) == {"teacher_overlap", "teacher_cosine", "teacher_mse", "neighbour_accuracy"}
    assert result.best_by == "teacher_overlap"


def test_without_a_validation_store_neighbours_tell_how_good_it_is(vectors: Store) -> None:
    (result,) = train(embedder(), vectors, valid=True, **learn_values(CosineLoss()))

    assert result.best_by == "neighbour_accuracy"
    assert result.last is not None
    assert set(result.last.values) == {"neighbour_accuracy"}


@pytest.mark.parametrize("best_by", ["teacher_cosine", "teacher_mse", "neighbour_accuracy"])
def test_the_best_epoch_is_by_the_metric_that_is_named(vectors: Store, best_by: str) -> None:
    (result,) = train(embedder(), vectors, valid=vectors, best_by=best_by, **learn_values(CosineLoss()))

    assert result.best_by == best_by
    assert result.best is not None
    assert best_by in result.best.values


def test_a_distance_that_another_width_does_not_have_can_not_make_an_epoch_the_best(vectors: Store) -> None:
    with pytest.raises(InvalidOption, match=r"student small gives \[3\] .* Say `run.best_by = teacher_overlap`"):
        train(embedder(3), vectors, valid=vectors, best_by="teacher_cosine", **learn_values(CosineLoss()))


def test_a_killed_run_goes_on_to_the_same_weights(vectors: Store, tmp_path: Path) -> None:
    run = learn_values(VectorMseLoss(), valid=vectors)
    undisturbed = embedder(3, dropout=0.5)
    results = train(undisturbed, vectors, out=tmp_path / "one", **run)

    students, resumed = train_interrupted(
        lambda: {"small": embedder(3, dropout=0.5)}, vectors, out=tmp_path / "other", **run
    )

    resumed_student = students["small"]
    assert isinstance(resumed_student, nn.Module)
    assert same_weights(undisturbed, resumed_student)
    assert list(map(all_but_seconds, resumed)) == list(map(all_but_seconds, results))


def test_one_of_several_outputs_is_named(folder: Path) -> None:
    both = open_store(folder / "both")

    (embedding,) = train(embedder(), both, **learn_values(CosineLoss(output="embedding")))

    (alone,) = train(embedder(), open_store(folder / "vectors"), **learn_values(CosineLoss()))
    assert embedding.train_loss == pytest.approx(alone.train_loss)
    with pytest.raises(InvalidOption, match=r"several outputs of values \(embedding, hidden\). Say which"):
        train(embedder(), both, **learn_values(CosineLoss()))
    with pytest.raises(InvalidOption, match=r"no output of values of this name .* Did you mean embedding\?"):
        train(embedder(), both, **learn_values(CosineLoss(output="embeding")))


def test_soft_labels_that_lie_beside_it_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    read_packed = Store.read_packed

    def noted(store: Store, samples: Any, *, view: Any = 0, feature: str | None = None) -> Any:
        asked.append(feature)
        return read_packed(store, samples, view=view, feature=feature)

    monkeypatch.setattr(Store, "read_packed", noted)
    both = open_store(folder / "both")
    train(embedder(), both, valid=both, **learn_values(CosineLoss(output="embedding")))

    assert set(asked) == {"embedding"}


def test_features_are_learnt_beside_the_own_output(folder: Path) -> None:
    feature = {"hidden": FeatureLoss(layer="hidden")}

    (result,) = train(
        embedder(), open_store(folder / "both"), **learn_values(CosineLoss(output="embedding"), feature=feature)
    )

    (alone,) = train(embedder(), open_store(folder / "both"), **learn_values(CosineLoss(output="embedding")))
    assert result.train_loss is not None
    assert alone.train_loss is not None
    assert result.train_loss > alone.train_loss


class Named(nn.Module):
    """Gives its vectors by name, beside something else."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net, self.output = embedder(), name

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {self.output: self.net(images_BCHW), "other": images_BCHW.mean(dim=(1, 2, 3))[:, None]}


def test_a_student_may_give_several_outputs_by_name(vectors: Store) -> None:
    named, bare = Named("embedding"), embedder()

    train({"named": named, "bare": bare}, vectors, **learn_values(CosineLoss()))

    assert same_weights(named.net, bare)
    with pytest.raises(ModelError, match=r"outputs vector \[2, 6\], other \[2, 1\] .* or an output `embedding`"):
        train(Named("vector"), vectors, **learn_values(CosineLoss()))


def test_several_students_may_learn_it_each_by_a_loss_of_its_own(vectors: Store) -> None:
    students: dict[str, nn.Module | Student] = {
        loss.name: Student(module=embedder(), learn=make_learn(loss=loss, alpha=1.0)) for loss in LOSSES
    }

    results = train(students, vectors)

    assert [result.name for result in results] == [loss.name for loss in LOSSES]
    assert not any(result.error for result in results)


class Mapper(nn.Module):
    """Gives a map [C, H, W] for a picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        map_BCHW: Tensor = self.conv(images_BCHW)
        return map_BCHW


@pytest.mark.parametrize(
    ("loss", "channels"),
    [
        (VectorKlLoss(), 2),
        (VectorKlLoss(over="positions", temperature=4.0), 2),
        (VectorMseLoss(), 5),
        (CosineLoss(), 5),
    ],
)
def test_maps_are_learnt_too(tmp_path: Path, loss: ValuesLoss, channels: int) -> None:
    maps = make_store(tmp_path / "maps", output=("map:values=layer:conv",), values_coding="float32")

    (first,) = train(Mapper(channels), maps, epochs=1, **learn_values(loss))
    (last,) = train(Mapper(channels), maps, epochs=30, valid=maps, **learn_values(loss))

    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < 0.7 * first.train_loss
    assert last.last is not None
    assert {"teacher_cosine", "teacher_mse"} & last.last.values.keys() == (
        {"teacher_cosine", "teacher_mse"} if channels == 2 else set()
    )


class Scorer(nn.Module):
    """One number a picture, [B]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = make_student(seed=seed, num_classes=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        scores_B: Tensor = self.net(images_BCHW)[:, 0]
        return scores_B


def test_one_score_a_sample_is_a_regression(tmp_path: Path) -> None:
    dump_teacher(
        Scorer(seed=3), pictures(), tmp_path / "scores", make_dump_options(output=("score:values",), batch_size=8)
    )
    scores = open_store(tmp_path / "scores")

    (result,) = train(Scorer(seed=0), scores, valid=scores, epochs=20, **learn_values(VectorMseLoss()))

    assert result.best_by == "teacher_mse"
    assert result.best is not None
    assert set(result.best.values) == {"teacher_mse"}
    with pytest.raises(StoreMismatch, match="the softmax over one number is 1 whatever"):
        train(Scorer(seed=0), scores, **learn_values(VectorKlLoss()))


# What is refused.


def test_hard_targets_do_not_go_beside_values(vectors: Store) -> None:
    with pytest.raises(InvalidOption, match=r"with teachers.alpha = 0.9: .* Say `teachers.alpha = 1`"):
        train(embedder(), vectors, loss=CosineLoss())
    with pytest.raises(InvalidOption, match=r"Say `teachers.alpha = 1`"):
        train(embedder(), vectors, loss=CosineLoss(), alpha=1.0, alpha_end=0.5)
    with pytest.raises(InvalidOption, match=r"Leave \[targets\] out"):
        train(embedder(), vectors, **learn_values(CosineLoss(), label_smoothing=0.1))
    with pytest.raises(InvalidOption, match=r"distil\.baseline: student small learns values"):
        train(embedder(), vectors, **learn_values(CosineLoss(), baseline=True))
    with pytest.raises(InvalidOption, match=r"distil\.new_classes: student small learns values"):
        train(embedder(), vectors, **learn_values(CosineLoss(), new_classes=True))


def test_a_loss_on_classes_is_refused_for_vectors_with_those_that_do(vectors: Store) -> None:
    with pytest.raises(StoreMismatch) as caught:
        train(embedder(), vectors, alpha=1.0)
    assert str(caught.value) == (
        f"student small: {vectors.name} holds no soft labels to learn by kl, only values (embedding). Learn them with "
        f"`loss.name = cosine`, or another of vector_mse, cosine, relational, similarity_kl, "
        f"pair_matching, vector_kl, margin_mse, "
        f"and `teachers.alpha = 1`; or as features, each under `feature`, with `teachers.alpha = 0`."
    )


def test_an_output_of_values_is_no_soft_label(folder: Path) -> None:
    with pytest.raises(InvalidOption, match=r"It is one of values: .* `loss\.output = embedding`"):
        open_store(folder / "both").with_labels("embedding")


def test_a_loss_on_values_is_refused_for_a_store_of_classes_alone(folder: Path) -> None:
    with pytest.raises(StoreMismatch, match=r"holds classes alone \(logits\). Say `loss.name = kl`, or dump an output"):
        train(embedder(), open_store(folder / "classes"), **learn_values(CosineLoss()))
    with pytest.raises(InvalidOption, match="there is no store to learn from"):
        train(embedder(), **learn_values(CosineLoss()))


def test_widths_that_differ_without_a_projector_are_refused(vectors: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"gives \[3\] .* what is stored is \[6\]: vector_mse compares"):
        train(embedder(3), vectors, **learn_values(VectorMseLoss(projector="none")))
    with pytest.raises(StoreMismatch, match=r"margin_mse compares number by number"):
        train(embedder(3), vectors, **learn_values(MarginMseLoss()))
    with pytest.raises(StoreMismatch, match=r"with `loss\.prefixes` nothing is projected"):
        train(embedder(3), vectors, **learn_values(CosineLoss(prefixes=(2,))))


def test_students_of_values_and_of_classes_need_two_runs(folder: Path) -> None:
    both = open_store(folder / "both")
    students = {
        "vectors": Student(module=embedder(), learn=make_learn(loss=CosineLoss(output="embedding"), alpha=1.0)),
        "classes": Student(module=embedder(), learn=make_learn(loss=KlLoss())),
    }

    with pytest.raises(InvalidOption, match=r"one learns the values embedding, the other classes, .* two runs"):
        train(students, both)


def test_a_store_of_values_beside_one_of_classes_is_refused_unless_something_of_it_is_learnt(folder: Path) -> None:
    classes, vectors = open_store(folder / "classes"), open_store(folder / "vectors")

    for stores in ([classes, vectors], [vectors, classes]):
        with pytest.raises(StoreMismatch, match=r"holds no classes beside .* or leave the store out"):
            train(embedder(), stores)
        (result,) = train(embedder(), stores, feature={"embedding": FeatureLoss(layer="hidden")})
        assert result.error is None


def test_a_search_is_over_losses_on_classes(vectors: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="a search tries losses on classes"):
        search(
            embedder,
            pictures(),
            [vectors],
            make_options(**learn_values(CosineLoss())),
            SearchOptions(trials=1),
            valid=Validation(source=pictures()),
            out=tmp_path,
        )


def test_a_validation_store_of_another_teacher_or_without_the_output_is_refused(
    vectors: Store, folder: Path, tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", seed=1, num_classes=WIDTH, output=("embedding:values",))
    with pytest.raises(StoreMismatch, match="was not made by the teacher of"):
        train(embedder(), vectors, valid=other, **learn_values(CosineLoss()))
    with pytest.raises(InvalidOption, match=r"classes holds no values of this name \(values: none\)"):
        train(embedder(), vectors, valid=open_store(folder / "classes"), **learn_values(CosineLoss()))


def test_a_validation_store_may_hold_the_values_alone(vectors: Store, folder: Path) -> None:
    both = open_store(folder / "both")

    (result,) = train(embedder(), both, valid=vectors, **learn_values(CosineLoss(output="embedding")))
    (same,) = train(embedder(), both, valid=both, **learn_values(CosineLoss(output="embedding")))

    assert result.last is not None
    assert same.last is not None
    assert result.last.values == same.last.values


def test_a_teacher_whose_vectors_are_not_finite_is_refused_when_it_is_dumped(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            return images_BCHW.flatten(start_dim=1).masked_fill(images_BCHW.mean() > -9, torch.nan)

    with pytest.raises(TeacherError, match=r"0000\.png"):
        dump_teacher(Broken(), pictures(), tmp_path / "store", make_dump_options(output=("embedding:values",)))
