"""Training runs of students that differ from each other, and a search for how to train one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from softlab.errors import InvalidOption, OddLabels, StoreMismatch
from softlab.recipes.students import TeacherModel
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.train import TrainRecipe
from softlab.recipes.writing import write_recipe
from softlab.sources.options import SourceOptions
from softlab.store.reader import open_store
from softlab.student.loop import TrainProgress
from softlab.student.options import RunOptions
from softlab.student.run_folder import StudentResult
from softlab.student.trials import Trial
from tests.recipes.demo import DATA, INPUT, ROOT, SMALL, SOURCE, as_class_folders, dump, train

CNN = "student.cnn.model=softlab:grey_cnn"
TEACHER_ITSELF = f"teacher={{model = 'softlab:grey_resnet', weights = '{DATA / 'teacher.safetensors'}'}}"
VALID = f"valid={{path = '{DATA / 'test'}', limit = 100}}"


def last(out: Path, name: str = "mlp") -> dict[str, Tensor]:
    return load_file(out / name / "last.safetensors")


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def options_of(out: Path, name: str = "mlp") -> dict[str, Any]:
    """What a run's record holds about a student."""
    student: dict[str, Any] = json.loads((out / "run.json").read_text())["students"][name]
    return student


def initial_weights(out: Path, name: str = "mlp") -> str:
    fingerprint: str = json.loads((out / "run.json").read_text())["students"][name]["initial_weights"]
    return fingerprint


def test_a_run_gives_the_students_in_the_order_of_the_recipe_and_tells_its_progress(
    tmp_path: Path, store: Path
) -> None:
    progress: list[TrainProgress] = []

    results = train(store, tmp_path / "run", CNN, VALID).run(on_progress=progress.append)

    assert [(type(result), result.name) for result in results if isinstance(result, StudentResult)] == [
        (StudentResult, "mlp"),
        (StudentResult, "cnn"),
    ]
    assert (progress[-1].step, progress[-1].num_steps, sorted(progress[-1].valid)) == (4, 4, ["cnn", "mlp"])


def test_the_output_that_is_chosen_is_learnt_and_belongs_to_the_run(tmp_path: Path) -> None:
    two = tmp_path / "two.zarr"
    replace(dump(two), dump=replace(SMALL, output=("logits", "head=layer:classifier"))).run()
    runs = {output: tmp_path / output for output in ("logits", "head")}

    for output, out in runs.items():
        train(two, out, f"output={output}").run()

    learnt = {output: json.loads((out / "run.json").read_text())["outputs"] for output, out in runs.items()}
    assert learnt == {"logits": ["logits"], "head": ["head"]}
    assert is_same(last(runs["logits"]), last(runs["head"])), "both are the teacher's logits"
    with pytest.raises(InvalidOption, match="has no output 'heads' of kind classes"):
        train(two, tmp_path / "none", "output=heads").run()
    with pytest.raises(StoreMismatch, match="outputs"):
        train(two, runs["logits"], "output=head").run()


def test_a_recipe_file_is_overridden_by_what_is_set() -> None:
    recipe = TrainRecipe.load(ROOT / "pipelines/fashion_mnist/train.toml", set=["run.epochs=3", "out=elsewhere"])

    assert (recipe.store, sorted(recipe.student)) == (("runs/demo/train.zarr",), ["cnn", "mlp"])
    assert (recipe.run_options.epochs, recipe.run_options.batch_size, recipe.out) == (3, 64, Path("elsewhere"))


# Options of one student.


def test_a_student_has_options_of_its_own(tmp_path: Path, store: Path) -> None:
    """Each ends with the weights of a run in which all students have these options."""
    together, alone, plain = tmp_path / "together", tmp_path / "alone", tmp_path / "plain"
    hot = "student.hot={model = 'softlab:grey_mlp', loss.temperature = 4, teachers.alpha = 0.5, seed = 3}"

    train(store, together, hot, "loss.temperature=2").run()
    train(store, alone, "loss.temperature=4", "teachers.alpha=0.5", "run.seed=3").run()
    train(store, plain, "loss.temperature=2").run()

    # The seed of the run also orders its samples, so `hot` alone has another order: only the record is compared.
    assert options_of(together, "hot") == options_of(alone)
    assert initial_weights(together, "hot") == initial_weights(alone)
    assert is_same(last(together), last(plain))
    assert not is_same(last(together, "hot"), last(together))


def test_one_student_may_learn_another_feature_or_be_pruned_otherwise(tmp_path: Path, store: Path) -> None:
    out = tmp_path / "run"

    train(
        *(store, out, "prune.amount=0.5", "feature.pool.layer='3'", CNN),
        *("student.cnn.prune.amount=0.9", "student.cnn.feature={pool={layer='pool'}}"),
    ).run()

    mlp, cnn = options_of(out), options_of(out, "cnn")
    assert (mlp["prune"]["amount"], cnn["prune"]["amount"]) == (0.5, 0.9)
    assert (mlp["objective"]["features"]["pool"]["layer"], cnn["objective"]["features"]["pool"]["layer"]) == (
        "3",
        "pool",
    )


# Layers of the teacher.


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Weights of a teacher."""
    run = RunOptions(epochs=1, batch_size=50, seed=1)
    teacher = TeacherModel(model="softlab:grey_cnn")
    TeacherRecipe(out=tmp_path / "teacher", teacher=teacher, source=SOURCE, input=INPUT, run_options=run).run()
    return tmp_path / "teacher/teacher/last.safetensors"


def test_a_student_starts_from_layers_of_the_teacher(tmp_path: Path, store: Path, trained: Path) -> None:
    """So small a step that weights stay what they were."""
    out = tmp_path / "run"

    train(
        *(store, out, CNN, "student.fresh.model=softlab:grey_cnn"),
        *(f"teacher={{model = 'softlab:grey_cnn', weights = '{trained}'}}",),
        *("optimizer.learning_rate=1e-12", "optimizer.weight_decay=0", "student.cnn.inherit.every=1"),
        *("student.cnn.inherit.strict=false", "student.cnn.inherit.map={'conv{i}' = 'conv{i}', 'norm{i}' = 'norm{i}'}"),
    ).run()

    theirs, heir, fresh = load_file(trained), last(out, "cnn"), last(out, "fresh")
    torch.testing.assert_close(heir["conv2.weight"], theirs["conv2.weight"], rtol=0, atol=1e-6)
    assert not torch.allclose(fresh["conv2.weight"], theirs["conv2.weight"], atol=1e-2)
    torch.testing.assert_close(heir["classifier.weight"], fresh["classifier.weight"], rtol=0, atol=1e-6)


# Several teachers.


@pytest.mark.filterwarnings("ignore::softlab.errors.RandomWeights", "ignore::softlab.errors.LittleMass")
def test_students_learn_from_several_stores(tmp_path: Path, store: Path) -> None:
    """Of a teacher that counts nothing they learn nothing; of half of it, something."""
    other = tmp_path / "other.zarr"
    dump(other, teacher=TeacherModel(model="softlab:grey_cnn")).run()
    outs = [tmp_path / name for name in ("alone", "nothing", "half")]
    both = f"store=['{store}', '{other}']"

    train(store, outs[0]).run()
    train(store, outs[1], both, "teachers.weight=[1, 0]").run()
    train(store, outs[2], both).run()

    alone, nothing, half = (last(out)["5.weight"] for out in outs)
    digests = json.loads((outs[1] / "run.json").read_text())["stores"]
    assert digests == [open_store(each).digest for each in (store, other)]
    torch.testing.assert_close(nothing, alone, rtol=0, atol=1e-3)
    assert not torch.allclose(half, alone, atol=1e-3)


def test_students_may_have_other_classes_than_the_teacher(tmp_path: Path, store: Path) -> None:
    """Also where they are measured, on hard targets and against the teacher's own run."""
    classes = "classes={names = ['Bag'], merged = {shoe = ['Sandal', 'Sneaker', 'Ankle boot']}}"
    kept = f"valid_full='{tmp_path / 'valid.zarr'}'"
    recipe = train(
        store, tmp_path / "run", VALID, TEACHER_ITSELF, kept, classes, "student.mlp.arguments={num_classes = 2}"
    )

    (result,) = recipe.run()

    assert isinstance(result, StudentResult)
    assert result.last is not None
    assert {"accuracy", "teacher_kl"} <= result.last.values.keys()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["classes"] == [[[8], [5, 7, 9]]]
    write_recipe(tmp_path / "written.toml", recipe)
    assert TrainRecipe.load(tmp_path / "written.toml").classes == recipe.classes


# A search.


def test_the_recipe_of_the_best_trial_trains_it_again(tmp_path: Path, store: Path) -> None:
    """Beside its baseline, which the search itself leaves out, and from the options that are the student's own."""
    recipe = train(
        *(store, tmp_path / "run", VALID, "search={trials = 4, together = 2, loss = ['kl', 'jensen_shannon']}"),
        *("student.mlp={targets.label_smoothing=0.1, teachers.alpha=0}", "log.track=[]", "distil.baseline=true"),
    )
    trials = recipe.run()
    best = TrainRecipe.load(recipe.best)

    results = best.run()

    assert (len(trials), len(results)) == (4, 2)
    (first, *_), (mlp, hard) = trials, results
    assert isinstance(first, Trial)
    assert isinstance(mlp, StudentResult)
    assert isinstance(hard, StudentResult)
    assert mlp.last is not None
    assert (mlp.last.values["accuracy"], hard.name) == (first.score, "mlp-hard")
    assert best.options.learn == first.learn
    assert (best.targets.label_smoothing, best.log.track, best.search) == (0.1, (), None)


def test_students_are_measured_against_the_teachers_own_run_over_the_validation_source(
    tmp_path: Path, store: Path
) -> None:
    kept = f"valid_full='{tmp_path / 'valid.zarr'}'"

    (result,) = train(store, tmp_path / "run", VALID, TEACHER_ITSELF, kept).run()

    assert isinstance(result, StudentResult)
    assert result.last is not None
    assert result.last.values["teacher_kl"] > 0
    assert "teacher_bucket_kl" not in result.last.values
    assert open_store(tmp_path / "valid.zarr").num_samples == 100


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ((TEACHER_ITSELF,), "`valid_full` without a validation source"),
        ((VALID,), r"Give `teacher\.model` and `teacher\.weights`"),
        ((VALID, TEACHER_ITSELF, "valid_store=a.zarr"), "in place of `valid_store`"),
    ],
)
def test_the_teachers_own_run_needs_a_teacher_and_a_source(
    tmp_path: Path, store: Path, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(store, tmp_path / "run", f"valid_full='{tmp_path / 'valid.zarr'}'", *assignments)


@pytest.mark.filterwarnings("ignore:.*are also in:softlab.errors.OddSource")
def test_validation_labels_of_other_classes_are_left_aside(tmp_path: Path, store: Path) -> None:
    """With a store students are compared with the teacher alone, without one with nothing."""
    Path(tmp_path / "others").mkdir()
    for number, each in enumerate(sorted(as_class_folders(tmp_path / "some").iterdir())[:3]):
        each.rename(tmp_path / "others" / "abc"[number])
    others = SourceOptions(path=str(tmp_path / "others"))
    with pytest.warns(OddLabels, match=r"folder:others: labels of other classes \(3 classes"):
        replace(dump(tmp_path / "valid"), source=others).run()

    with pytest.warns(OddLabels, match=r"folder:others: labels of other classes \(3 classes, .* left aside"):
        (alone,) = train(store, tmp_path / "alone", f"valid.path='{others.path}'").run()
    with pytest.warns(OddLabels, match=r"folder:others: labels of other classes \(3 classes, .* left aside"):
        (beside,) = train(
            store, tmp_path / "beside", f"valid.path='{others.path}'", f"valid_store='{tmp_path / 'valid'}'"
        ).run()

    assert isinstance(alone, StudentResult)
    assert isinstance(beside, StudentResult)
    assert (alone.last, alone.best_by) == (None, None)
    assert beside.best_by == "teacher_bucket_kl"
    assert beside.last is not None
    assert "accuracy" not in beside.last.values
    with pytest.raises(InvalidOption, match=r"run\.best_by = accuracy: accuracy can't be measured on folder:others"):
        train(store, tmp_path / "by", f"valid.path='{others.path}'", "run.best_by=accuracy").run()
