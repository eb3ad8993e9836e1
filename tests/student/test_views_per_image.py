"""Students that learn several views of each sample in one step."""

# Shape letters: B rows in a batch, N samples, V views, C classes.

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views
from softlab.ranks import Ranks
from softlab.store.reader import Store
from softlab.student.collectives import check_batch_size
from softlab.student.heads.options import HeadOptions
from softlab.student.options import RunOptions, Student
from softlab.student.train import train_students
from tests.sources.pictures import image_of
from tests.student.fashion import same_weights
from tests.student.heads.tasks import Headed, Tasks, dump_both, learn_of
from tests.student.pictures import (
    NUM_CLASSES,
    NUM_PICTURES,
    make_learn,
    make_options,
    make_store,
    make_student,
    pictures,
    stop_at,
    train,
    train_interrupted,
)
from tests.teacher.dumping import Pictures

AUGMENT = ViewRecipe(transforms=("RandomCrop([4, 6], padding=2)", "RandomHorizontalFlip()"), seed=5)
NUM_VIEWS = 4
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("views") / "store", augment=AUGMENT, views=NUM_VIEWS)


def views_of_all() -> Tensor:
    """[N, V, C, H, W] as a student sees them."""
    source, numbers = pictures(), list(range(NUM_PICTURES))
    replay = ImageReplay(record_views(AUGMENT, num_views=NUM_VIEWS, digest_every=0), num_samples=NUM_PICTURES)
    views = [replay.views(numbers, [view] * NUM_PICTURES, lambda n: image_of(source, n)) for view in range(NUM_VIEWS)]
    return torch.stack([make_input([each.example for each in seen], ImageInput()) for seen in views], dim=1)


def learn_by_hand(student: nn.Module, store: Store, *, views_per_image: int, epochs: int) -> None:
    """KL to the stored labels at temperature 4, in plain torch code."""
    images, optimizer = views_of_all(), torch.optim.SGD(student.parameters(), lr=0.05)
    order = ShuffledBatches(
        num_samples=NUM_PICTURES, batch_size=8, epochs=epochs, seed=0, num_views=NUM_VIEWS,
        views_per_image=views_per_image,
    )  # fmt: skip
    for rows in order:
        labels = store.read(rows.source_B, view=rows.views_B)
        teacher_BC = torch.empty(8, NUM_CLASSES).scatter_(1, labels.class_ids_BK.long(), labels.logits_BK) / 4
        student_BC = student(images[rows.source_B, rows.views_B]) / 4
        optimizer.zero_grad()
        loss = functional.kl_div(student_BC.log_softmax(1), teacher_BC.softmax(1), reduction="batchmean")
        (16 * loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("views_per_image", [1, 2, 4])
def test_a_run_is_that_of_plain_torch_code_over_these_batches(store: Store, views_per_image: int) -> None:
    expected, student = make_student(), make_student()
    learn_by_hand(expected, store, views_per_image=views_per_image, epochs=5)

    train(student, store, epochs=5, alpha=1.0, temperature=4.0, views_per_image=views_per_image, **SGD)

    torch.testing.assert_close(student.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)


def test_each_number_of_views_is_another_run(store: Store) -> None:
    students = {count: make_student() for count in (1, 2, 4)}

    for count, student in students.items():
        train(student, store, epochs=4, views_per_image=count)

    assert not same_weights(students[1], students[2])
    assert not same_weights(students[2], students[4])


@pytest.mark.parametrize("options", [{}, {"view_order": "random"}, {"shuffle": "blocks"}, {"accumulate": 2}])
def test_an_interrupted_run_goes_on_to_the_same_bits(store: Store, tmp_path: Path, options: dict[str, Any]) -> None:
    run = {"views_per_image": 2, "epochs": 5} | options
    expected = make_student(dropout=0.3)
    train(expected, store, **run)

    students, _ = train_interrupted(lambda: {"small": make_student(dropout=0.3)}, store, out=tmp_path, **run)

    student = students["small"]
    assert isinstance(student, nn.Module)
    assert same_weights(student, expected)


def test_a_run_goes_on_only_with_as_many_views_and_one_of_one_says_nothing_of_them(
    store: Store, tmp_path: Path
) -> None:
    for name, count in (("two", 2), ("one", 1)):
        with pytest.raises(KeyboardInterrupt):
            train(make_student(), store, out=tmp_path / name, on_progress=stop_at(5), views_per_image=count)
    told = {name: json.loads((tmp_path / name / "run.json").read_text())["run"] for name in ("one", "two")}

    assert told["two"]["views_per_image"] == 2
    assert "views_per_image" not in told["one"], "as it was before there was the option"
    with pytest.raises(StoreMismatch, match=r"views_per_image.*Repeat the first command to go on with it"):
        train(make_student(), store, out=tmp_path / "two", views_per_image=1)


def test_parts_of_a_batch_make_the_step_of_the_whole(store: Store) -> None:
    whole, parts = make_student(batch_norm=False), make_student(batch_norm=False)

    train(whole, store, views_per_image=2, **SGD)
    train(parts, store, views_per_image=2, accumulate=4, **SGD)

    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=1e-4, atol=1e-6)


def test_students_and_teachers_of_one_pass_see_the_same_views(store: Store, tmp_path: Path) -> None:
    """Each store is asked for the same view of the same sample: a teacher beside itself changes nothing."""
    again = make_store(tmp_path / "again", augment=AUGMENT, views=NUM_VIEWS)
    alone, one, other = make_student(), make_student(), make_student(seed=1)

    train(
        {"one": one, "other": Student(module=other, learn=make_learn(**SGD))}, [store, again], views_per_image=2, **SGD
    )

    train(alone, store, views_per_image=2, **SGD)
    torch.testing.assert_close(one.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-6)
    assert not same_weights(other, make_student(seed=1))


def test_a_head_learns_what_it_would_as_the_only_output(tmp_path: Path) -> None:
    store = dump_both(tmp_path / "store", augment=AUGMENT, views=NUM_VIEWS)
    headed, alone = Headed(), Headed()

    class OneTask(Pictures):
        @property
        def targets(self) -> Any:
            return {"species": Tasks().targets["species"]}

    class OneOutput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.headed = alone

        def forward(self, images_BCHW: Tensor) -> Tensor:
            logits_BC: Tensor = self.headed(images_BCHW)["species"]
            return logits_BC

    options = make_options(views_per_image=2, alpha=1.0, **SGD)
    heads = {"species": HeadOptions(alpha=1.0)}
    train_students({"small": Student(module=headed, learn=learn_of(heads, **SGD))}, Tasks(), [store], options)
    train_students(
        {"small": OneOutput()}, OneTask(count=NUM_PICTURES, class_names=None), [store.with_labels("species")], options
    )

    assert same_weights(headed, alone)


def test_mixed_views_and_features_are_learnt_several_a_batch(tmp_path: Path) -> None:
    """What is stored of a mixed view is what the teacher gives for the pixels that a student sees."""
    mixing = ViewRecipe(transforms=("RandomHorizontalFlip()",), mixup=1.0, cutmix=1.0)
    store = make_store(tmp_path / "mixed", augment=mixing, views=NUM_VIEWS, feature={"mean": "conv:mean"})
    whole, parts = make_student(batch_norm=False), make_student(batch_norm=False)

    (result,) = train(whole, store, views_per_image=4, epochs=4, alpha=0.5, **SGD)
    train(parts, store, views_per_image=4, epochs=4, alpha=0.5, accumulate=2, **SGD)

    assert result.error is None
    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=1e-4, atol=1e-6)


def test_hard_labels_are_learnt_from_fresh_views_that_share_a_batch() -> None:
    student = make_student()
    seen: list[Tensor] = []
    student.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()) if module.training else None)

    train_students({"small": student}, pictures(), [], make_options(epochs=4, views_per_image=2), augment=AUGMENT)

    images, (first, *_) = views_of_all(), seen
    rows = next(iter(ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=4, seed=0, num_views=None,
                                     views_per_image=2)))  # fmt: skip
    assert rows.views_B.tolist() == [0, 1] * 4
    assert first.equal(images[rows.source_B, rows.views_B])


# What is refused.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"views_per_image": 0}, "run.views_per_image = 0: expected a divisor of `run.batch_size`, 128"),
        ({"views_per_image": 3}, "run.views_per_image = 3: expected a divisor of `run.batch_size`, 128"),
        (
            {"views_per_image": 4, "batch_size": 36, "accumulate": 6},
            "run.views_per_image = 4: expected a divisor of `run.batch_size` / `run.accumulate`, 6",
        ),
        ({"views_per_image": 4, "epochs": 3}, "run.views_per_image = 4: expected 1 to 3, the epochs of the run"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        RunOptions(**options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"views_per_image": 8, "epochs": 8}, r"8: .*store: 4 stored views .*Choose 4 or less, or add .*--views 8`"),
        (
            {"views_per_image": 3, "batch_size": 6, "view_order": "random"},
            r"3: .*4 stored views .*Choose a divisor of 4, or `distil\.view_order = cycle`",
        ),
    ],
)
def test_views_that_a_batch_would_hold_twice_are_refused(store: Store, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOption, match=r"run\.views_per_image = " + expected):
        train(make_student(), store, **options)


def test_three_of_four_views_in_turn_are_a_run(store: Store) -> None:
    (result,) = train(make_student(), store, views_per_image=3, batch_size=6, epochs=8)

    assert result.error is None


def test_samples_as_they_are_have_no_views_that_could_share_a_batch() -> None:
    with pytest.raises(InvalidOption, match=r"as they are, so that all views of one would be equal.*\[augment\]"):
        train(make_student(), views_per_image=2)


def test_a_source_smaller_than_a_batch_holds_all_views_or_is_refused(store: Store) -> None:
    train(make_student(), store, batch_size=64, views_per_image=4, max_samples=8, epochs=4)

    with pytest.raises(
        InvalidOption, match=r"run\.batch_size = 6: each sample is in it in 4 views\. Choose a multiple of 4 as"
    ):
        train(make_student(), store, batch_size=64, views_per_image=4, max_samples=6, epochs=4)


def test_processes_and_parts_each_need_all_views_of_their_samples() -> None:
    check_batch_size(16, Ranks(rank=0, count=2), parts=2, views_per_image=4)

    with pytest.raises(
        InvalidOption,
        match=r"24: 2 processes and 2 parts share each batch in equal parts, and each sample is in it in 4 views\. "
        r"Choose a multiple of 16 as `run\.batch_size`",
    ):
        check_batch_size(24, Ranks(rank=0, count=2), parts=2, views_per_image=4)
