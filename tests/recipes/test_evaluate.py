from dataclasses import replace
from pathlib import Path

import pytest

from softlab.errors import PublishedInput
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.store.reader import open_store
from tests.recipes.demo import INPUT, SOURCE, TEACHER


def test_a_run_gives_how_good_a_model_is_and_what_it_costs(store: Path) -> None:
    """The teacher against its own labels."""
    recipe = EvaluateRecipe(model=TEACHER, source=SOURCE, input=INPUT, store=str(store))

    evaluation, cost = recipe.run()

    assert evaluation.rows == 200
    assert evaluation.values["teacher_agreement"] == 1
    assert evaluation.values["accuracy"] == open_store(store).manifest.statistics["logits"].accuracy
    assert 400_000 < cost.num_parameters < 500_000


@pytest.mark.filterwarnings("ignore::softlab.errors.OddLabels")
def test_a_named_model_is_shown_images_as_it_was_published() -> None:
    recipe = EvaluateRecipe(
        model=ModelOptions(model="torchvision:mobilenet_v3_small"), source=replace(SOURCE, limit=2), input=ImageInput()
    )

    with pytest.warns(PublishedInput, match=r"say `input\.mean`"):
        evaluation, _ = recipe.run()

    assert evaluation.rows == 2
