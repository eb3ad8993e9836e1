from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softlab.errors import InvalidOption, ModelError, OddLabels, PublishedInput, StoreMismatch
from softlab.evaluation.one_model import EvaluateOptions, open_inputs
from softlab.loading.options import CheckOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.about import read_about
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.models.rows import logits_of
from softlab.models.weights import encode_weights
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.recipes.students import TeacherModel
from softlab.sources.options import SourceOptions
from softlab.store.reader import open_store
from tests.recipes.demo import INPUT, LACKING, SOURCE, TEACHER, as_class_folders, train


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
        model=ModelOptions(model="torchvision:mobilenet_v3_small"),
        source=replace(SOURCE, limit=2),
        evaluate=EvaluateOptions(batch_size=1),
    )

    with pytest.warns(PublishedInput, match=r"say `input\.mean`"):
        evaluation, _ = recipe.run()

    assert evaluation.rows == 2


def test_weights_of_a_student_bring_their_input(tmp_path: Path, store: Path) -> None:
    train(store, tmp_path / "run").run()
    weights = tmp_path / "run/mlp/last.safetensors"
    recipe = EvaluateRecipe(model=ModelOptions(model="softlab:grey_mlp", weights=weights), source=SOURCE)

    about = read_about(weights)
    evaluation, _ = recipe.run()

    assert about is not None
    assert (about.input.options["mean"], about.input.decode) == ([0.286], {"rules": 2, "background": "white"})
    assert (about.class_names or ())[0] == "T-shirt/top"
    assert about.recipe["student"]["loss"] == "kl"
    assert evaluation.values == replace(recipe, input=INPUT).run()[0].values
    with pytest.raises(
        InvalidOption, match=r"`input\.mean = \[0\.4\]`, but .* with \[0\.286\]\. Leave `input\.mean` out"
    ):
        replace(recipe, input=ImageInput(mean=(0.4,))).run()


def test_a_source_that_counts_the_classes_of_the_weights_otherwise_is_aligned_by_name(
    tmp_path: Path, store: Path
) -> None:
    train(store, tmp_path / "run").run()
    weights = tmp_path / "run/mlp/last.safetensors"
    recipe = EvaluateRecipe(model=ModelOptions(model="softlab:grey_mlp", weights=weights), source=SOURCE)
    folder = SourceOptions(path=str(as_class_folders(tmp_path / "some")))

    with pytest.warns(OddLabels, match=r"of the model's weights: 8 of 10 there, 'T-shirt/top', 'Sneaker' have no"):
        found, _ = replace(recipe, source=folder, evaluate=EvaluateOptions(per_class=True)).run()

    whole, _ = replace(recipe, evaluate=EvaluateOptions(per_class=True)).run()
    recalls = {each.name: each.recall for each in whole.classes or () if each.name not in LACKING}
    assert {each.name: each.recall for each in found.classes or () if each.samples} == recalls
    (tmp_path / "some/Coat").rename(tmp_path / "some/Coats")
    with pytest.raises(StoreMismatch, match=r"'Coats' is none of the 10 classes .* Did you mean Coat"):
        replace(recipe, source=folder).run()


def test_what_weights_say_of_themselves_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(
        encode_weights({"a": torch.zeros(1)}, metadata={"softlab.about": "{}", "softlab.about_blake3": "0"})
    )

    with pytest.raises(ModelError, match=r"what it says of its input is damaged"):
        read_about(path)


def test_an_input_that_nobody_has_told_is_named() -> None:
    with pytest.warns(
        PublishedInput, match=r"neither the weights of softlab:grey_resnet nor the recipe .* mean \[0\.5\]"
    ):
        EvaluateRecipe(model=TEACHER, source=replace(SOURCE, limit=8)).run()


def full(tmp_path: Path, *, model: ModelOptions = TEACHER) -> EvaluateRecipe:
    return EvaluateRecipe(model=model, source=SOURCE, input=INPUT, teacher=TEACHER, full=tmp_path / "full.zarr")


def test_against_the_teacher_itself_a_copy_of_it_has_no_divergence_over_all_classes(tmp_path: Path) -> None:
    evaluation, _ = full(tmp_path).run()

    assert evaluation.values["teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert evaluation.values["teacher_jensen_shannon"] == pytest.approx(0, abs=1e-6)
    assert "teacher_bucket_kl" not in evaluation.values


def test_against_the_teacher_itself_the_divergence_is_that_of_float64_and_above_the_buckets(
    tmp_path: Path, store: Path
) -> None:
    train(store, tmp_path / "run").run()
    student = ModelOptions(model="softlab:grey_mlp", weights=tmp_path / "run/mlp/last.safetensors")

    evaluation, _ = full(tmp_path, model=student).run()
    kept, _ = replace(full(tmp_path, model=student), full=None, teacher=None, store=str(store)).run()

    log_p_NC, log_q_NC = (all_logits(options).double().log_softmax(dim=1) for options in (TEACHER, student))
    exact = (log_p_NC.exp() * (log_p_NC - log_q_NC)).sum(dim=1).mean().item()
    assert evaluation.values["teacher_kl"] == pytest.approx(exact, rel=1e-5)
    assert kept.values["teacher_bucket_kl"] < evaluation.values["teacher_kl"]


def all_logits(options: ModelOptions) -> Tensor:
    source, module = open_source(SOURCE), build_model(options).eval()
    loader = open_inputs(source, input=INPUT, device=DeviceOptions(name="cpu"), check=CheckOptions())
    (batch,) = loader.load(in_sequence(0, len(source), batch_size=len(source)))
    with torch.inference_mode():
        return logits_of(module, batch.inputs[0].inputs, device=torch.device("cpu"), autocast="none").known


def test_the_teachers_own_run_is_used_again(tmp_path: Path) -> None:
    full(tmp_path).run()
    written = (tmp_path / "full.zarr/manifest.json").stat().st_mtime_ns

    full(tmp_path).run()

    assert (tmp_path / "full.zarr/manifest.json").stat().st_mtime_ns == written
    assert open_store(tmp_path / "full.zarr").k == 10


def test_the_teacher_itself_without_weights_or_beside_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"Give `teacher\.model` and `teacher\.weights`"):
        replace(full(tmp_path), teacher=None)
    with pytest.raises(InvalidOption, match="Leave `store` out, or `full`"):
        replace(full(tmp_path), store="a.zarr")


def test_a_teacher_whose_weights_tell_their_input_is_run_with_that_whatever_other_models_read(
    tmp_path: Path, store: Path
) -> None:
    train(store, tmp_path / "run").run()
    taught = TeacherModel(model="softlab:grey_mlp", weights=tmp_path / "run/mlp/last.safetensors")
    recipe = EvaluateRecipe(model=taught, source=SOURCE, teacher=taught, full=tmp_path / "full.zarr")

    evaluation, _ = recipe.run()

    assert evaluation.values["teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert open_store(tmp_path / "full.zarr").manifest.seen[0].options["mean"] == [0.286]
    with pytest.raises(InvalidOption, match=r"Leave `teacher\.input\.mean` out"):
        replace(recipe, teacher=replace(taught, input=ImageInput(mean=(0.4,))), full=tmp_path / "other").run()
