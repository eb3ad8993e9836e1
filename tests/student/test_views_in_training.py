"""Students of a store of several views: what they see, what is recorded, and how an interrupted run goes on."""

# Shape letters: B rows in a batch, C classes.

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store, open_store
from softlab.student.loop import TrainProgress
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import image_of
from tests.student.fashion import INPUT, fashion, make_options, make_student, make_teacher, same_weights

AUGMENT = ViewRecipe(transforms=("RandomCrop(28, padding=3)", "RandomHorizontalFlip()"), seed=3)
MIXING = ViewRecipe(transforms=("RandomHorizontalFlip()",), mixup=1.0, cutmix=1.0)
OTHER = ViewRecipe(transforms=("RandomVerticalFlip()",))
NUM_VIEWS = 3


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    folder = tmp_path_factory.mktemp("views")
    teacher = Teacher(module=make_teacher(), name="softlab:grey_resnet", arguments={}, input=INPUT)
    for name, augment in {"crops": AUGMENT, "mixed": MIXING}.items():
        options = DumpOptions(
            device=DeviceOptions(name="cpu"), k=10, coding="float32", views=NUM_VIEWS, pixel_digests="all"
        )
        dump_teacher(teacher, fashion(), folder / name, options, augment=augment)
    return {name: open_store(folder / name) for name in ("crops", "mixed")}


def train(student: nn.Module, stores: list[Store], *, input: ImageInput = INPUT, **values: Any) -> list[StudentResult]:
    run = {name: values.pop(name) for name in ("augment", "out", "on_progress") if name in values}
    return train_students({"small": student}, fashion(), stores, make_options(**values), input=input, **run)


class Recording(nn.Module):
    """A student that keeps what it sees while it trains."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.seen: list[Tensor] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.training:
            self.seen.append(images_BCHW.clone())
        logits_BC: Tensor = self.student(images_BCHW)
        return logits_BC


def replayed(view: int, *, augment: ViewRecipe = AUGMENT, input: ImageInput = INPUT) -> set[bytes]:
    """One view of every sample as a model sees it."""
    source = fashion()
    replay = ImageReplay(record_views(augment, num_views=NUM_VIEWS, digest_every=0), num_samples=len(source))
    numbers = list(range(len(source)))
    views = replay.views(numbers, [view] * len(numbers), lambda number: image_of(source, number))
    return {image_CHW.numpy().tobytes() for image_CHW in make_input([each.example for each in views], input)}


# What is seen.


def test_each_epoch_shows_the_teachers_next_view_of_every_sample(stores: dict[str, Store]) -> None:
    student = Recording(make_student())

    train(student, [stores["crops"]], epochs=NUM_VIEWS + 1)

    epochs = torch.cat(student.seen).chunk(NUM_VIEWS + 1)
    for epoch, images_BCHW in enumerate(epochs):
        assert {image_CHW.numpy().tobytes() for image_CHW in images_BCHW} == replayed(epoch % NUM_VIEWS)


def test_a_student_of_another_size_sees_the_same_random_part(stores: dict[str, Store]) -> None:
    smaller = ImageInput(size=(14, 14), mean=(0.3,), std=(0.4,))
    student = Recording(nn.Sequential(nn.Flatten(), nn.Linear(14 * 14, 10)))

    train(student, [stores["crops"]], epochs=1, input=smaller)

    seen = {image_CHW.numpy().tobytes() for image_CHW in torch.cat(student.seen)}
    assert seen == replayed(0, input=smaller)


@pytest.mark.parametrize("name", ["crops", "mixed"])
def test_the_loss_is_that_of_the_teacher_run_on_the_students_own_images(stores: dict[str, Store], name: str) -> None:
    student, teacher = Recording(make_student()), make_teacher().eval()

    (result,) = train(student, [stores[name]], epochs=1, alpha=1.0, temperature=4.0, batch_size=300)

    (images_BCHW,) = student.seen
    with torch.no_grad():
        teacher_BC, student_BC = teacher(images_BCHW) / 4, make_student().train()(images_BCHW) / 4
    divergence = kl_div(student_BC.log_softmax(1), teacher_BC.log_softmax(1), log_target=True, reduction="batchmean")
    assert result.train_loss == pytest.approx(4**2 * divergence.item(), rel=1e-4)


def test_mixed_views_are_learnt_with_both_their_targets(stores: dict[str, Store]) -> None:
    student = Recording(make_student())

    (result,) = train(student, [stores["mixed"]], epochs=1, alpha=0.0, batch_size=300)

    source, losses = fashion(), []
    with torch.no_grad():
        logits_BC = make_student().train()(student.seen[0])
    replay = ImageReplay(stores["mixed"].manifest.views, num_samples=len(source))
    (rows,) = ShuffledBatches(num_samples=300, batch_size=300, epochs=1, seed=0, num_views=NUM_VIEWS)
    views = replay.views(rows.source_B.tolist(), rows.views_B.tolist(), lambda number: image_of(source, number))
    for row, (sample, view) in enumerate(zip(rows.source_B.tolist(), views, strict=True)):
        for number, weight in [(sample, view.weight), (view.partner, 1 - view.weight)]:
            losses.append(weight * -logits_BC[row].double().log_softmax(0)[source.targets["label"][number]].item())
    assert {view.weight for view in views} != {1.0}
    assert result.train_loss == pytest.approx(sum(losses) / 300, rel=1e-4)


# What is recorded.


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["crops"], {}, "yes"),
        (["crops"], {"views_mismatch": "allow"}, "not checked"),
        (["crops"], {"views_mismatch": "allow", "augment": OTHER}, "no"),
        ([], {"alpha": 0.0, "augment": AUGMENT}, "no teacher"),
    ],
)
def test_a_run_records_whether_students_saw_what_the_teacher_saw(
    stores: dict[str, Store], tmp_path: Path, names: list[str], options: dict[str, Any], expected: str
) -> None:
    train(make_student(), [stores[name] for name in names], out=tmp_path / "run", **options)

    assert json.loads((tmp_path / "run" / "run.json").read_text())["views"]["as_the_teacher_saw"] == expected


# Going on.


@pytest.mark.parametrize("view_order", ["cycle", "random"])
def test_an_interrupted_run_goes_on_with_the_views_it_would_have_shown(
    stores: dict[str, Store], tmp_path: Path, view_order: str
) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 13:
            raise KeyboardInterrupt

    expected, student = make_student(), make_student()
    run: dict[str, Any] = {"epochs": 4, "view_order": view_order, "checkpoint_steps": 5}
    train(expected, [stores["crops"]], **run)

    with pytest.raises(KeyboardInterrupt):
        train(make_student(), [stores["crops"]], out=tmp_path, on_progress=stop, **run)
    train(student, [stores["crops"]], out=tmp_path, **run)

    assert same_weights(student, expected)
