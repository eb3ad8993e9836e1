"""What the commands say to views that can't be made, or that the teacher didn't see: one line, and no traceback."""

import json
from pathlib import Path

import pytest

from softlab.cli.main import main
from tests.cli.program import TEACHER, TRAIN, Softlab, assert_refused, open_uncached, train

FLIP = ("--augment-transforms", "RandomHorizontalFlip()")


def dump(out: Path, *more: object) -> tuple[object, ...]:
    """Arguments of a small dump."""
    return ("dump-teacher", "--out", out, *TEACHER, *TRAIN, "--source-limit", "20", "--batch-size", "20", *more)


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of two views."""
    out = tmp_path_factory.mktemp("flipped") / "store"
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in dump(out, "--views", "2", *FLIP)])
    assert not stopped.value.code
    return out


# Recipes that can't be followed.

BAD_RECIPES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("--augment-transforms", "RandomHorizontalFlop()"): (
        "transform 'RandomHorizontalFlop' isn't one that views are made of. Did you mean RandomHorizontalFlip",
    ),
    ("--augment-transforms", "Normalize([0.5], [0.5])"): ("they are the options of [input].",),
    ("--augment-transforms", "RandomCrop(28, paddin=2)"): (
        "transform RandomCrop has no argument 'paddin'. Did you mean padding",
    ),
    ("--augment-transforms", "RandomCrop(padding=2)"): (
        "RandomCrop needs size. Write a call of a torchvision v2 transform, such as RandomCrop(28, padding=2).",
    ),
    ("--augment-transforms", "__import__('os').system('true')"): ("not a name with its arguments.",),
    (*FLIP, "--augment-transforms", "RandomCrop(40)"): (
        "transform RandomCrop(size=40) can't be applied to an image of 1x28x28 (channels x height x width): ",
        "Change its arguments, or bring all images to one size and kind before it.",
    ),
    ("--augment-mixup", "0"): ("mixup = 0.0: expected 0.001 to 1000. Change --augment-mixup.",),
    ("--augment-cutmix", "nan"): ("cutmix = nan: expected 0.001 to 1000. Change --augment-cutmix.",),
    ("--augment-cutmix", "1", "--augment-mix-share", "2"): ("expected 0 to 1. Change --augment-mix-share.",),
    ("--augment-cutmix", "1", "--source-limit", "1"): (
        "MixUp and CutMix need a second sample to mix with. Add samples, or leave mixing out.",
    ),
    (*FLIP, "--augment-seed", "-1"): ("augment seed = -1: expected 0 to 2^63 - 1. Change --augment-seed.",),
}


@pytest.mark.parametrize("options", BAD_RECIPES, ids=" ".join)
def test_a_recipe_that_can_not_be_followed_is_refused(
    tmp_path: Path, softlab: Softlab, options: tuple[str, ...]
) -> None:
    answer = softlab(*dump(tmp_path / "store", *options))

    assert_refused(answer, *BAD_RECIPES[options])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["dump-teacher", "train-student"])
@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("[augment]\ntransform = ['RGB()']", "unknown key augment.transform. Did you mean transforms?"),
        ("[augment]\nmix_up = 0.2", "unknown key augment.mix_up. Did you mean mixup"),
        ("[augment]\ntransforms = 'RGB()'", "augment.transforms is 'RGB()', but must be a list, each value a string."),
        ("[augment]\ntransforms = ['RGB', 3]", "augment.transforms is ['RGB', 3], but must be a list, each value a s"),
        ("[augment]\ntransforms = ['RandomGrayscal()']", "transform 'RandomGrayscal' isn't one that views are made of"),
        ("[augment]\ncutmix = 'yes'", "augment.cutmix is 'yes', but must be a number."),
    ],
)
def test_a_recipe_file_is_refused_by_its_name(
    tmp_path: Path, stores: Path, softlab: Softlab, command: str, table: str, text: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(table)
    arguments = dump(tmp_path / "out") if command == "dump-teacher" else train(stores / "train.zarr", tmp_path / "out")

    answer = softlab(command, recipe, *arguments[1:])

    assert_refused(answer, f"{recipe}: ", text)


# Numbers of views.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--views", "4"), "without anything random they would all be the same. Say what differs, such as --augment-t"),
        (("--views", "4", "--augment-seed", "3"), "without anything random they would all be the same."),
        (("--views", "x", *FLIP), "views = 'x': expected a number, as in --views 4, or +N to add views, as in --vi"),
        (("--views", "+x", *FLIP), "views = '+x': expected a number, as in --views 4, or +N to add views, as in --v"),
        (("--views", "1.5", *FLIP), "views = '1.5': expected a number"),
        (("--views", "0", *FLIP), "views = 0: expected 1 or more. Change --views."),
        (("--views", "-1", *FLIP), "views = -1: expected 1 or more. Change --views."),
        (("--views", "+0", *FLIP), "views = +0: expected 1 or more. Change --views."),
        (("--views", "+2", *FLIP), "no such folder. Check the address"),
    ],
)
def test_a_number_of_views_that_can_not_be_is_refused(
    tmp_path: Path, softlab: Softlab, options: tuple[str, ...], text: str
) -> None:
    answer = softlab(*dump(tmp_path / "store", *options))

    assert_refused(answer, text)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (
            ("--views", "+2", "--augment-transforms", "RandomVerticalFlip()"),
            ["views can only be added by the same teacher", "RandomHorizontalFlip", "RandomVerticalFlip"],
        ),
        (("--views", "+2", *FLIP, "--augment-seed", "1"), ["views.seed was 0, is now 1"]),
        (("--views", "+2", *FLIP, "--k", "3"), ["Repeat the command that made it, with --views +N, or choose another"]),
        (("--views", "3", *FLIP), ["views.num_views was 2, is now 3.", "--views +N adds N views to it."]),
        (("--views", "2", *FLIP, "--augment-mixup", "1"), ["made differently: views.", "Choose another folder"]),
    ],
)
def test_views_of_another_kind_are_not_added_to_a_store(
    flipped: Path, softlab: Softlab, options: tuple[str, ...], texts: list[str]
) -> None:
    before = open_uncached(flipped).digest

    answer = softlab(*dump(flipped, *options))

    assert_refused(answer, f"{flipped}: ", *texts)
    assert open_uncached(flipped).digest == before


def test_views_are_not_added_without_saying_what_differs(flipped: Path, softlab: Softlab) -> None:
    answer = softlab(*dump(flipped, "--views", "+2"))

    assert_refused(answer, "views = +2: without anything random they would all be the same. Say what differs")


# Views that the teacher didn't see.


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (FLIP, "[augment] asks for RandomHorizontalFlip() (seed 0)."),
        ((*FLIP, "--augment-seed", "4"), "[augment] asks for RandomHorizontalFlip() (seed 4)."),
        (("--augment-mixup", "0.5"), "[augment] asks for MixUp(alpha=0.5) (seed 0)."),
    ],
)
def test_views_that_the_teacher_did_not_see_are_refused(
    tmp_path: Path, stores: Path, softlab: Softlab, options: tuple[str, ...], asked: str
) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *options))

    assert_refused(
        answer,
        f"{stores / 'train.zarr'}: the teacher saw other views: samples as they are.",
        asked,
        "Leave [augment] out, and the store's own views are replayed; or train on other views than the teacher's by "
        "saying --views-mismatch allow.",
    )
    assert not (tmp_path / "run").exists()


def test_another_number_in_a_stores_own_transform_is_another_view(
    tmp_path: Path, flipped: Path, softlab: Softlab
) -> None:
    other = ("--augment-transforms", "RandomHorizontalFlip(0.4)")
    fitting = ("--source-limit", "20", "--batch-size", "10")

    answer = softlab(*train(flipped, tmp_path / "run", *fitting, *other))

    assert_refused(
        answer, "the teacher saw other views: RandomHorizontalFlip() (seed 0).", "RandomHorizontalFlip(p=0.4)"
    )


def test_a_stores_own_recipe_is_accepted_however_it_is_written(tmp_path: Path, flipped: Path, softlab: Softlab) -> None:
    same = ("--augment-transforms", "RandomHorizontalFlip( p = 0.5 )")
    fitting = ("--source-limit", "20", "--batch-size", "10")

    answer = softlab(*train(flipped, tmp_path / "run", *fitting, *same))

    assert (answer.code, answer.err) == (0, "")


def test_other_views_are_accepted_where_that_is_said(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    run = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", run, *FLIP, "--views-mismatch", "allow"))

    assert (answer.code, answer.err) == (0, "")
    views = json.loads((run / "run.json").read_text())["views"]
    assert views["replayed"] == "RandomHorizontalFlip() (seed 0)"
    assert views["as_the_teacher_saw"] == "no"


def test_mixed_views_are_refused_even_then(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    """The store's labels are of one sample each."""
    mixed = ("--augment-mixup", "0.5", "--views-mismatch", "allow")

    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *mixed))

    assert_refused(answer, "[augment] mixes samples", "Leave mixing out.")
