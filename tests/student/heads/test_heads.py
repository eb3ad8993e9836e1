"""Students with several heads: each learns a stored output of its own, and is measured by itself."""

# Shape letters: B rows in a batch, N samples, C classes.

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import OddLabels, StoreMismatch
from softlab.labels.losses import KlLoss, ReverseKlLoss
from softlab.labels.losses.values import CosineLoss, VectorMseLoss
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.sources.subset import chosen
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.options import HeadOptions
from softlab.student.options import Student
from softlab.student.train import train_students
from softlab.student.validation import Validation
from tests.student.fashion import all_but_seconds, same_weights
from tests.student.heads.tasks import ALL, SGD, Headed, Tasks, dump_both, dump_one, student
from tests.student.pictures import NUM_PICTURES, make_options, stop_at
from tests.teacher.dumping import Pictures, images_of

BOTH = {"species": HeadOptions(alpha=1.0), "colour": HeadOptions(alpha=1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of all outputs (`both`), and one of each of three teachers."""
    folder = tmp_path_factory.mktemp("heads")
    dump_both(folder / "both")
    for name in ("species", "colour", "vector"):
        dump_one(folder / name, name)
    return folder


@pytest.fixture
def both(folder: Path) -> Store:
    return open_store(folder / "both")


def run(students: Student | dict[str, Student], *stores: Store, valid: Any = None, **options: Any) -> list[Any]:
    given = {"small": students} if isinstance(students, Student) else students
    named = {name: options.pop(name) for name in ("out", "on_progress") if name in options}
    return train_students(given, Tasks(), stores, make_options(**options), valid=valid, **named)


def dense(store: Store, output: str) -> Tensor:
    """Raw logits of all classes, [N, C]."""
    labels = store.with_labels(output).read(ALL)
    logits_NC = torch.empty(NUM_PICTURES, labels.num_classes)
    return logits_NC.scatter_(1, labels.class_ids_BK, labels.logits_BK) + labels.max_logit_B[:, None]


def kl(student_BC: Tensor, teacher_BC: Tensor, *, temperature: float) -> Tensor:
    student_BC, teacher_BC = student_BC / temperature, teacher_BC / temperature
    mean = functional.kl_div(student_BC.log_softmax(1), teacher_BC.softmax(1), reduction="batchmean")
    return temperature**2 * mean


def test_a_run_is_the_weighted_sum_of_the_losses_that_torch_would_have(both: Store) -> None:
    heads = {
        "species": HeadOptions(alpha=0.7, loss=KlLoss(temperature=2.0)),
        "colour": HeadOptions(alpha=0.4, weight=3.0, loss=ReverseKlLoss(temperature=1.0)),
        "vector": HeadOptions(weight=0.5, loss=VectorMseLoss()),
    }
    trained, expected = student(heads, **SGD), Headed()
    targets = {name: torch.from_numpy(targets_N) for name, targets_N in Tasks().targets.items()}
    teacher = {name: dense(both, name) for name in ("species", "colour")}
    vectors_ND = both.read_features("vector", ALL)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.05)
    for rows in ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=3, seed=0):
        B = torch.from_numpy(rows.source_B)
        given = expected(images_of(Tasks(), B.tolist()))
        species = 0.7 * kl(given["species"], teacher["species"][B], temperature=2.0)
        species = species + 0.3 * functional.cross_entropy(given["species"], targets["species"][B])
        colour = 0.4 * kl(teacher["colour"][B], given["colour"], temperature=1.0)
        colour = colour + 0.6 * functional.cross_entropy(given["colour"], targets["colour"][B], ignore_index=-1)
        vector = functional.mse_loss(given["vector"], vectors_ND[B])
        optimizer.zero_grad()
        (species + 3 * colour + 0.5 * vector).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    run(trained, both)

    torch.testing.assert_close(trained.module.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)


def test_teachers_of_different_tasks_teach_as_one_store_of_both_does(folder: Path, both: Store) -> None:
    heads = {**BOTH, "vector": HeadOptions(loss=CosineLoss())}
    of_one, of_three = student(heads), student(heads)

    run(of_one, both)
    run(of_three, *(open_store(folder / name) for name in ("colour", "vector", "species")))

    assert same_weights(of_one.module, of_three.module)


def test_a_part_of_the_samples_is_found_in_the_stores_of_all_heads(folder: Path, both: Store) -> None:
    of_one, of_two = student(BOTH), student(BOTH)
    part, options = chosen(Tasks(), np.array([2, 3, 5, 7, 11, 13, 17, 19, 23])), make_options(subset=True)

    train_students({"small": of_one}, part, [both], options)
    stores = [open_store(folder / name) for name in ("species", "colour")]
    train_students({"small": of_two}, part, stores, options)

    assert same_weights(of_one.module, of_two.module)
    assert not same_weights(of_one.module, Headed())


def test_a_head_finds_its_output_under_another_name_in_the_store_that_is_named(folder: Path, tmp_path: Path) -> None:
    named = {name: dump_one(tmp_path / name, name, output="logits") for name in ("species", "colour")}
    heads = {name: HeadOptions(alpha=1.0, store=name) for name in named}
    trained, expected = student(heads), student(BOTH)

    run(trained, *named.values())

    run(expected, open_store(folder / "species"), open_store(folder / "colour"))
    assert same_weights(trained.module, expected.module)


def test_a_student_of_one_head_learns_what_it_would_as_its_only_output(both: Store) -> None:
    class OneOutput(Headed):
        def forward(self, images_BCHW: Tensor) -> Any:
            return super().forward(images_BCHW)["species"]

    alone, headed = OneOutput(), student({"species": HeadOptions(alpha=1.0)})

    train_students({"small": alone}, Pictures(count=NUM_PICTURES), [both], make_options(alpha=1.0))
    run(headed, both)

    assert same_weights(alone, headed.module)


def test_each_head_is_measured_by_itself(folder: Path, both: Store) -> None:
    heads = {**BOTH, "vector": HeadOptions(loss=CosineLoss())}
    trained = student(heads)

    (result,) = run(trained, both, valid=Validation(source=Tasks(), store=both), best_by="colour/accuracy")

    trained.module.eval()
    given = trained.module(images_of(Tasks(), ALL))
    targets_N = torch.from_numpy(Tasks().targets["colour"])
    right_N = (given["colour"].argmax(1) == targets_N)[targets_N >= 0]
    assert result.best_by == "colour/accuracy"
    assert result.last.values["colour/accuracy"] == pytest.approx(right_N.float().mean().item())
    agree_N = given["species"].argmax(1) == dense(both, "species").argmax(1)
    assert result.last.values["species/teacher_agreement"] == pytest.approx(agree_N.float().mean().item())
    expected = kl(given["species"], dense(both, "species"), temperature=1.0).item()
    assert result.last.values["species/teacher_kl"] == pytest.approx(expected, abs=1e-4)
    assert "vector/teacher_cosine" in result.last.values
    assert f"colour accuracy {100 * result.best.values['colour/accuracy']:.2f}%" in repr(result)


def test_heads_are_measured_against_the_validation_stores_of_their_teachers(folder: Path) -> None:
    stores = [open_store(folder / name) for name in ("species", "colour")]
    valid = Validation(source=Tasks(), store=stores[1], others=(stores[0],))

    (result,) = run(student(BOTH), *stores, valid=valid)

    assert {"species/teacher_kl", "colour/teacher_kl", "species/accuracy"} <= result.last.values.keys()
    assert result.best_by == "species/accuracy"


def test_without_validation_stores_heads_are_measured_by_their_hard_targets(both: Store) -> None:
    (result,) = run(student(BOTH), both, valid=Validation(source=Tasks()))

    assert {"species/accuracy", "colour/accuracy"} <= result.last.values.keys()
    assert not any("teacher" in name for name in result.last.values)


def test_a_head_of_weight_0_is_measured_and_learns_nothing(both: Store) -> None:
    alone = student({**BOTH, "colour": HeadOptions(weight=0.0)})
    before = {name: tensor.clone() for name, tensor in alone.module.state_dict().items() if "colour" in name}
    together = student(BOTH)

    results = run({"alone": alone, "both": together}, both, valid=Validation(source=Tasks()))

    after = alone.module.state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    assert not after["heads.species.weight"].equal(Headed().state_dict()["heads.species.weight"])
    assert "colour/accuracy" in results[0].last.values
    assert results[0].best_by == "species/accuracy"


def test_students_share_a_pass_and_none_depends_on_the_others(both: Store) -> None:
    other = {
        "species": HeadOptions(alpha=0.5, weight=2.0),
        "colour": HeadOptions(alpha=1.0, loss=KlLoss(temperature=4)),
    }
    alone, one, two = student(BOTH, dropout=0.5), student(BOTH, dropout=0.5), student(other, seed=1)

    run({"one": one, "two": two}, both)
    run({"one": alone}, both)

    assert same_weights(alone.module, one.module)


def test_features_are_learnt_beside_heads(both: Store) -> None:
    feature = {"vector": FeatureLoss(layer="trunk", weight=0.5)}
    trained, without = student(BOTH, feature=feature), student(BOTH)

    run(trained, both)
    run(without, both)

    assert not same_weights(trained.module, without.module)


def test_a_head_of_values_of_another_width_has_a_projector_of_its_own(folder: Path) -> None:
    heads = {"species": HeadOptions(alpha=1.0), "colour": HeadOptions(output="vector", loss=CosineLoss())}

    (result,) = run(student(heads), open_store(folder / "species"), open_store(folder / "vector"), valid=None)

    assert result.error is None
    assert result.train_loss > 0


def test_a_baseline_learns_the_hard_targets_of_all_heads(both: Store) -> None:
    small = student(BOTH)

    results = run({"small": small}, both, baseline=True, valid=Validation(source=Tasks()))

    assert [result.name for result in results] == ["small", "small-hard"]
    assert results[0].last.values != results[1].last.values


def test_labels_of_other_classes_than_the_teachers_are_left_aside_head_by_head(both: Store) -> None:
    heads = {"species": HeadOptions(alpha=0.5), "colour": HeadOptions(alpha=0.5, target="species")}

    with pytest.warns(OddLabels, match="left aside"):
        (result,) = run(student(heads), both, valid=Validation(source=Tasks()))

    assert "species/accuracy" in result.last.values
    assert "colour/accuracy" not in result.last.values


@pytest.mark.parametrize("stop", [4, 5, 8])
def test_an_interrupted_run_goes_on_to_the_same_bits(both: Store, tmp_path: Path, stop: int) -> None:
    heads = {**BOTH, "vector": HeadOptions(loss=CosineLoss())}
    options: dict[str, Any] = {"valid": Validation(source=Tasks(), store=both), "checkpoint_steps": 2}
    whole, again = student(heads, dropout=0.5), student(heads, dropout=0.5)
    expected = run(whole, both, out=tmp_path / "whole", **options)

    with pytest.raises(KeyboardInterrupt):
        run(student(heads, dropout=0.5), both, out=tmp_path / "run", on_progress=stop_at(stop), **options)
    results = run(again, both, out=tmp_path / "run", **options)

    assert same_weights(whole.module, again.module)
    assert list(map(all_but_seconds, results)) == list(map(all_but_seconds, expected))
    for name in ("best", "last"):
        ours, theirs = (tmp_path / each / "small" / f"{name}.safetensors" for each in ("run", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_run_goes_on_with_the_same_heads_alone(both: Store, tmp_path: Path) -> None:
    other = {
        "species": HeadOptions(alpha=0.8, loss=KlLoss(temperature=2.0)),
        "colour": replace(BOTH["colour"], weight=2),
    }
    with pytest.raises(KeyboardInterrupt):
        run(student(BOTH), both, out=tmp_path / "run", on_progress=stop_at(4))

    with pytest.raises(StoreMismatch) as error:
        run(student(other), both, out=tmp_path / "run")

    message = str(error.value)
    for option in ("species.alpha` was 1.0, is now 0.8", "species.loss.temperature` was 4", "colour.weight` was 1.0"):
        assert f"`student.small.head.{option}" in message


@pytest.mark.process
def test_decoding_processes_change_nothing(both: Store) -> None:
    here, beside = student(BOTH), student(BOTH)

    run(here, both)
    run(beside, both, workers=2)

    assert same_weights(here.module, beside.module)


def test_mixed_views_have_two_hard_targets_of_each_head(tmp_path: Path) -> None:
    store = dump_both(tmp_path / "mixed", augment=ViewRecipe(mixup=0.5, seed=1))
    headed = student({"species": HeadOptions(alpha=0.0)})

    class OneTarget(Pictures):
        @property
        def targets(self) -> Any:
            return {"species": Tasks().targets["species"]}

    class OneOutput(Headed):
        def forward(self, images_BCHW: Tensor) -> Any:
            return super().forward(images_BCHW)["species"]

    alone, source = OneOutput(), OneTarget(count=NUM_PICTURES, class_names=None)

    run(headed, store)
    train_students({"small": alone}, source, [store], make_options(alpha=0.0))

    assert same_weights(headed.module, alone)


def test_parts_of_a_batch_add_up_to_it(both: Store) -> None:
    whole, parts = student(BOTH, **SGD), student(BOTH, **SGD)

    run(whole, both)
    run(parts, both, accumulate=2)

    torch.testing.assert_close(whole.module.state_dict(), parts.module.state_dict(), rtol=1e-4, atol=1e-5)
