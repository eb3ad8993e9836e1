from pathlib import Path

import pytest

from softlab.recipes.building import load_recipe
from softlab.recipes.draft import Draft
from softlab.recipes.options import option_fields
from softlab.recipes.train import TrainRecipe


def load(text: str, folder: Path) -> TrainRecipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(TrainRecipe, path=path)


def filled() -> Draft:
    draft = Draft(TrainRecipe, title="A title that says what this is.")
    draft.fill("run.epochs", 7, "as asked")
    draft.fill("out", Path("runs/out"))
    draft.fill("store", ["a.zarr", "b.zarr"])
    draft.fill("source.path", 'images "of" mine')
    draft.fill("student.small.model", "softlab:grey_mlp")
    draft.fill("student.small.arguments", {"width": 8, "act": "relu"})
    draft.fill("input.mean", [0.5])
    return draft


def test_a_draft_is_a_recipe_with_what_was_filled_in(tmp_path: Path) -> None:
    recipe = load(filled().text(), tmp_path)

    assert (recipe.run_options.epochs, recipe.out, recipe.store) == (7, Path("runs/out"), ("a.zarr", "b.zarr"))
    assert recipe.source.path == 'images "of" mine'
    assert recipe.student["small"].arguments == {"width": 8, "act": "relu"}


def test_what_is_offered_stands_there_as_a_comment_with_its_text(tmp_path: Path) -> None:
    draft = filled()
    draft.offer("run.patience", 5)
    draft.offer("optimizer.ema", 0.999)

    assert "\n# patience = 5\n" in draft.text()
    assert "\n# [optimizer]\n# Decay a step of an exponential moving average" in draft.text()
    assert load(draft.text(), tmp_path) == load(filled().text(), tmp_path)


def test_every_option_that_may_be_offered_loads_once_its_comment_is_taken_away(tmp_path: Path) -> None:
    draft = filled()
    draft.offer("run.accumulate", 2)

    with_it = load(draft.text().replace("# accumulate", "accumulate"), tmp_path)

    assert with_it.run_options.accumulate == 2


def test_an_option_that_there_is_not_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match=r"run\.epoch"):
        filled().fill("run.epoch", 1)


def test_keys_without_a_section_come_first() -> None:
    lines = filled().text().splitlines()

    assert lines.index('out = "runs/out"') < next(at for at, line in enumerate(lines) if line.startswith("["))


def test_a_student_s_own_options_are_known_under_any_name() -> None:
    assert "student.NAME.model" in [option.key for option in option_fields(TrainRecipe)]
