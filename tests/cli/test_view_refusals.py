"""What the commands say to views that can't be made, or that the teacher didn't see: one line, and no traceback."""

import json
from pathlib import Path

import pytest

from softlab.cli.main import main
from tests.cli.program import TEACHER, TRAIN, Softlab, assert_refused, train

FLIP = "RandomHorizontalFlip()"


def dump(out: Path, *more: object) -> tuple[object, ...]:
    """Arguments of a small dump."""
    return ("dump-teacher", "--out", out, *TEACHER, *TRAIN, "--set", "source.limit=20", "--batch-size", "20", *more)


def seeing(transform: str) -> tuple[str, str]:
    """Arguments of a training run on views of its own."""
    return ("--set", f"augment.transforms=['{transform}']")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of two views."""
    out = tmp_path_factory.mktemp("flipped") / "store"
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in dump(out, "--views", "2", "--augment", FLIP)])
    assert not stopped.value.code
    return out


@pytest.mark.parametrize("command", ["dump-teacher", "train-student"])
def test_a_recipe_file_is_refused_by_its_name(tmp_path: Path, stores: Path, softlab: Softlab, command: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[augment]\ntransforms = ['RandomGrayscal()']")
    arguments = dump(tmp_path / "out") if command == "dump-teacher" else train(stores / "train.zarr", tmp_path / "out")

    answer = softlab(command, recipe, *arguments[1:])

    assert_refused(answer, f"{recipe}: ", "transform 'RandomGrayscal' isn't one that views are made of")


def test_views_are_not_added_without_saying_what_differs(flipped: Path, softlab: Softlab) -> None:
    answer = softlab(*dump(flipped, "--views", "+2"))

    assert_refused(answer, "views = +2: without anything random they would all be the same. Say what differs")


# Views that the teacher didn't see.


def test_views_that_the_teacher_did_not_see_are_refused(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *seeing(FLIP)))

    assert_refused(
        answer,
        f"{stores / 'train.zarr'}: the teacher saw other views: samples as they are.",
        "[augment] asks for RandomHorizontalFlip() (seed 0).",
        "Leave [augment] out, and the store's own views are replayed; or train on other views than the teacher's by "
        "saying `check.views_mismatch = allow` (--set check.views_mismatch=allow).",
    )
    assert not (tmp_path / "run").exists()


def test_another_number_in_a_stores_own_transform_is_another_view(
    tmp_path: Path, flipped: Path, softlab: Softlab
) -> None:
    fitting = ("--set", "source.limit=20", "--batch-size", "10")

    answer = softlab(*train(flipped, tmp_path / "run", *fitting, *seeing("RandomHorizontalFlip(0.4)")))

    assert_refused(
        answer, "the teacher saw other views: RandomHorizontalFlip() (seed 0).", "RandomHorizontalFlip(p=0.4)"
    )


def test_a_stores_own_recipe_is_accepted_however_it_is_written(tmp_path: Path, flipped: Path, softlab: Softlab) -> None:
    fitting = ("--set", "source.limit=20", "--batch-size", "10")

    answer = softlab(*train(flipped, tmp_path / "run", *fitting, *seeing("RandomHorizontalFlip( p = 0.5 )")))

    assert (answer.code, answer.err) == (0, "")


def test_other_views_are_accepted_where_that_is_said(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    run = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", run, *seeing(FLIP), "--set", "check.views_mismatch=allow"))

    assert (answer.code, answer.err) == (0, "")
    views = json.loads((run / "run.json").read_text())["views"]
    assert views["replayed"] == "RandomHorizontalFlip() (seed 0)"
    assert views["as_the_teacher_saw"] == "no"


def test_mixed_views_are_refused_even_then(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    """The store's labels are of one sample each."""
    mixed = ("--set", "augment.mixup=0.5", "--set", "check.views_mismatch=allow")

    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *mixed))

    assert_refused(answer, "[augment] mixes samples", "Leave mixing out.")
