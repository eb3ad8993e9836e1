"""What the library says of its options by their keys is told with the flags of the command."""

import warnings
from collections.abc import Iterator

import pytest

from softlab.cli.messages import say_flags, with_flags
from softlab.errors import SoftlabWarning
from tests.cli.program import MLP, TRAIN, Softlab, assert_refused

FLAGS = {
    "out": "--out",
    "store": "--store",
    "run.epochs": "--epochs",
    "check.subset": "--subset",
    "input.mean": "--mean",
    "source.path": "--source",
}
KEYS = [*FLAGS, "check.views_mismatch", "log.track", "optimizer.clip_norm"]


@pytest.fixture(autouse=True)
def _of_a_command() -> Iterator[None]:
    say_flags(FLAGS, KEYS)
    yield
    say_flags({}, ())


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Change `run.epochs`.", "Change `run.epochs` (--epochs)."),
        ("`out` is missing.", "`out` (--out) is missing."),
        ("Set `run.epochs = 3`.", "Set `run.epochs = 3` (--epochs 3)."),
        ("Give `source.path = my data`.", "Give `source.path = my data` (--source 'my data')."),
        ("Give `input.mean = [0.5, 0.4]`.", "Give `input.mean = [0.5, 0.4]` (--mean 0.5 --mean 0.4)."),
        ("Say `check.subset = true`.", "Say `check.subset = true` (--subset)."),
        ("Say `check.subset = false`.", "Say `check.subset = false` (--no-subset)."),
        ("Change `run.epochs` or `out`.", "Change `run.epochs` (--epochs) or `out` (--out)."),
        ("Change `run.epochs`\nor `out`.", "Change `run.epochs` (--epochs)\nor `out` (--out)."),
    ],
)
def test_a_key_with_a_flag_is_told_with_it(message: str, told: str) -> None:
    assert with_flags(message) == told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Say `check.views_mismatch = allow`.",
            "Say `check.views_mismatch = allow` (--set check.views_mismatch=allow).",
        ),
        (
            "Train with `log.track = [tensorboard]`.",
            "Train with `log.track = [tensorboard]` (--set 'log.track=[tensorboard]').",
        ),
        ("Set `optimizer.clip_norm = 1`.", "Set `optimizer.clip_norm = 1` (--set optimizer.clip_norm=1)."),
    ],
)
def test_a_key_without_a_flag_is_set_where_its_value_is_named(message: str, told: str) -> None:
    assert with_flags(message) == told


@pytest.mark.parametrize(
    "message",
    [
        "Change `optimizer.clip_norm`.",  # no flag, and nothing to set it to
        "Ask its publisher to `softlab sign` it.",
        "Give another `epochs`.",
        "`run.epoch = 3` is no option.",
        "`student.small.run.epochs` is none either.",
        "Write `run.epochs=3` as it stands.",
        "run.epochs = 3: expected less.",
        "a `store.zarr` and an `out/of` nothing",
    ],
)
def test_other_words_stay_as_they_are(message: str) -> None:
    assert with_flags(message) == message


def test_before_a_command_nothing_is_added() -> None:
    say_flags({}, ())

    assert with_flags("Change `run.epochs`, or say `check.subset = true`.") == (
        "Change `run.epochs`, or say `check.subset = true`."
    )


# From the outside.


def test_an_error_names_the_flags_of_the_command_that_was_called(softlab: Softlab) -> None:
    of_training = softlab("train-student", "--store", "a", "--out", "b", *TRAIN, *MLP, "--alpha", "2")
    of_both = [softlab(command, *TRAIN) for command in ("train-student", "train-teacher")]

    assert_refused(of_training, "teachers.alpha = 2.0: expected 0 to 1. Change `teachers.alpha` (--alpha).")
    for answer in of_both:
        assert_refused(answer, "`out` (--out) is missing. Give it as a flag, with --set, or in a recipe.")


@pytest.mark.parametrize(
    ("warning", "told"),
    [
        (SoftlabWarning("no `teacher.weights`"), "note: no `teacher.weights` (--weights)"),
        (UserWarning("no `teacher.weights`"), "UserWarning: no `teacher.weights`"),
    ],
)
def test_a_note_names_them_too_and_a_warning_of_others_stays(
    softlab: Softlab, capsys: pytest.CaptureFixture[str], warning: Warning, told: str
) -> None:
    softlab("dump-teacher")  # which sets what is said from then on
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(warning, stacklevel=1)

    assert capsys.readouterr().err == f"{told}\n"
