"""A multi-label teacher and its student from the outside."""

from pathlib import Path

import pytest

from softlab.cli.main import main
from tests.cli.program import CNN, INPUT, SMALL, TEACHER, TRAIN, Softlab, assert_refused, open_uncached, train

SIGMOID = ("--head", "sigmoid")
BCE = ("--loss", "bce", "--alpha", "1", "--temperature", "2")


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store."""
    out = tmp_path_factory.mktemp("multi-label") / "store"
    with pytest.raises(SystemExit) as stopped:
        main(["dump-teacher", "--out", str(out), *TEACHER, *TRAIN, *SMALL, *SIGMOID])
    assert not stopped.value.code
    return out


def test_inspect_shows_the_head(multi_label: Path, stores: Path, softlab: Softlab) -> None:
    answer, other = softlab("inspect", multi_label), softlab("inspect", stores / "train.zarr")

    masses = zip((1, 2, 4), open_uncached(multi_label).manifest.statistics["logits"].mean_captured_mass, strict=True)
    assert (answer.code, answer.err) == (0, "")
    assert answer.facts()["head"] == "sigmoid (multi-label: each class a choice of its own)"
    assert answer.facts()["captured mass"] == ", ".join(f"{mass:.4f} at T={t}" for t, mass in masses)
    assert other.facts()["head"] == "softmax"


def test_a_plan_tells_the_error_of_the_binary_cross_entropy(softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--plan", *TEACHER, *TRAIN, "--k", "4", *SIGMOID)

    assert (answer.code, answer.err) == (0, "")
    assert "BCE T=1" in answer.out
    assert "mass: share of the summed probability that the kept classes have. BCE: nats a class" in answer.out
    assert "KL" not in answer.out


def test_a_student_is_trained_and_measured(tmp_path: Path, multi_label: Path, softlab: Softlab) -> None:
    answer = softlab(*train(multi_label, tmp_path / "run", *BCE))
    weights = tmp_path / "run/mlp/last.safetensors"
    measured = softlab(
        *("evaluate", "--model", "softlab:grey_mlp", "--weights", weights, *INPUT, *TRAIN, "--store", multi_label)
    )

    assert (answer.code, measured.code) == (0, 0)
    assert measured.facts()["agreement with the teacher"].endswith("%")
    assert "KL to the teacher" not in measured.facts()


def test_the_default_loss_is_refused_with_the_one_to_choose(
    tmp_path: Path, multi_label: Path, softlab: Softlab
) -> None:
    answer = softlab(*train(multi_label, tmp_path / "run", *CNN))

    assert_refused(
        answer, "kl is for teachers with a softmax head", "Choose as `loss.name` (--loss) bce, or mse on the logits."
    )


def test_bce_is_refused_for_a_softmax_store(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *CNN, *BCE))

    assert_refused(
        answer, "bce is for teachers with a sigmoid head", "Choose as `loss.name` (--loss) kl, or mse on the logits."
    )


def test_hard_targets_beside_bce_are_refused_with_the_alpha_to_choose(
    tmp_path: Path, multi_label: Path, softlab: Softlab
) -> None:
    answer = softlab(*train(multi_label, tmp_path / "run", "--loss", "bce"))

    assert_refused(answer, "student mlp: alpha below 1 adds hard targets", "with `teachers.alpha = 1` (--alpha 1)")


def test_an_unknown_head_is_refused(tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--head", "sigmoi")

    assert answer.code != 0
    assert "sigmoid" in answer.err
    assert not (tmp_path / "store").exists()
