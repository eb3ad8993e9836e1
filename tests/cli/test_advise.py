"""`softlab advise`: what it prints, and the recipe that it writes."""

from pathlib import Path

import pytest

from softlab.recipes.advise import AdviseRecipe
from softlab.recipes.train import TrainRecipe
from tests.cli.program import DATA, INPUT, MLP, TRAIN, Softlab, assert_refused

VALID = ("--valid", str(DATA / "test"), "--set", "valid.limit=100")
RUN = (*TRAIN, *INPUT, *MLP, "--epochs", "3", "--batch-size", "50")


def advise(stores: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("advise", stores / "train.zarr", "--out", out, *RUN, *VALID, *more)


def test_it_prints_the_rounds_and_the_evidence_and_writes_a_recipe(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    answer = softlab(*advise(stores, tmp_path / "run"))

    recipe = TrainRecipe.load(tmp_path / "run/advice.toml")
    facts = answer.facts()
    assert (answer.code, answer.err) == (0, "")
    assert "10 candidates, 1 epoch of 60 samples:" in answer.out
    assert facts["store"].endswith("10 classes, K = 4, 1 view")
    assert {"teacher accuracy", "entropy", "kept at T=1", "kept at T=4"} <= facts.keys()
    assert "Best: " in answer.out
    assert "All that was tried cost 6.0 runs of the student." in answer.out
    assert "With half of the samples, for as many steps: accuracy" in answer.out
    assert answer.out.endswith(f"The recipe: softlab train-student {tmp_path / 'run/advice.toml'}\n")
    text = (tmp_path / "run/advice.toml").read_text()
    assert text.startswith("# store: ")
    assert f"# kept at T=1: {facts['kept at T=1']}\n" in text
    assert "# Best: " in text
    assert recipe.run_options.epochs == 3
    assert recipe.out == tmp_path / "run/best"
    assert list(recipe.student) == ["mlp"]


def test_its_recipe_trains_and_it_can_be_given_one(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "train.toml"
    recipe.write_text(f'store = ["{stores / "train.zarr"}"]\nout = "{tmp_path / "run"}"\n[advise]\nhalf = false\n')

    answer = softlab("advise", "--recipe", recipe, *RUN, *VALID, "--until", "accuracy>=0.05")
    again = softlab("train-student", tmp_path / "run/advice.toml")

    assert "The figure that was asked for is reached: the search ended there." in answer.out
    assert (answer.code, again.code) == (0, 0)
    assert (tmp_path / "run/best/mlp/last.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--until", "accuracy>0.9"), "advise.until = accuracy>0.9: expected METRIC>=VALUE"),
        (("--set", "search.trials=3"), "advice chooses what it tries by itself"),
        (("--student", "cnn=softlab:grey_cnn"), "advice is on one student"),
        (("--until", "teacher_kl<=0.1"), "teacher_kl can't be measured"),
    ],
)
def test_what_it_cannot_do_is_refused(
    more: tuple[str, ...], told: str, tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    assert_refused(softlab(*advise(stores, tmp_path / "run", *more)), told)


def test_without_a_validation_source_it_is_refused(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab("advise", stores / "train.zarr", "--out", tmp_path / "run", *RUN)

    assert_refused(answer, "Give one `student` (--student), and `valid.path` (--valid)")


def test_its_options_are_those_of_training_beside_its_own() -> None:
    assert AdviseRecipe.flags["advise.until"] == "--until"
    assert "loss.name" not in AdviseRecipe.flags
