from dataclasses import replace
from pathlib import Path

import pytest

from softlab.errors import InvalidOption, OddLabels, RandomWeights
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.students import TeacherModel
from softlab.sources.options import SourceOptions
from softlab.store.reader import open_store
from softlab.teacher.dump import DumpSummary
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.options import DumpOptions
from softlab.teacher.survey import Survey
from softlab.teacher.survey_run import SurveyProgress
from tests.recipes.demo import DATA, INPUT, ROOT, as_class_folders, dump, train


def test_a_run_gives_the_summary_of_the_store_and_tells_its_progress(tmp_path: Path) -> None:
    progress: list[DumpProgress | SurveyProgress] = []

    summary = dump(tmp_path / "store").run(on_progress=progress.append)

    store = open_store(tmp_path / "store")
    assert isinstance(summary, DumpSummary)
    assert (summary.digest, summary.rows_computed) == (store.digest, 200)
    assert (store.num_samples, store.k, store.feature_names) == (200, 4, ("pool",))
    assert (progress[-1].done, progress[-1].total) == (200, 200)


def test_a_finished_dump_returns_at_once(store: Path) -> None:
    summary = dump(store).run()

    assert isinstance(summary, DumpSummary)
    assert summary.rows_computed == 0


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    survey = dump(tmp_path / "store", plan=True).run()

    assert isinstance(survey, Survey)
    assert (survey.surveyed, survey.num_classes, survey.chosen_k) == (200, 10, 4)
    assert list(tmp_path.iterdir()) == []


def test_a_scan_for_unreadable_samples_tells_its_progress(tmp_path: Path) -> None:
    scanned: list[tuple[int, int]] = []
    changes = [f"out='{tmp_path / 'store'}'", "source.limit=20", "source.skip_unreadable=true"]
    changes += [f"source.path='{DATA / 'train'}'", f"teacher.weights='{DATA / 'teacher.safetensors'}'"]

    DumpRecipe.load(ROOT / "pipelines/fashion_mnist/dump.toml", set=changes).run(
        on_scan=lambda done, total: scanned.append((done, total))
    )

    assert scanned == [(done, 20) for done in range(1, 21)]


def test_a_second_teacher_is_shown_the_samples_of_another_store(tmp_path: Path, store: Path) -> None:
    recipe = DumpRecipe.load(
        ROOT / "pipelines/fashion_mnist/dump.toml",
        set=[
            *(f"out='{tmp_path / 'other'}'", f"like='{store}'", "source.limit=200", "dump.feature={}"),
            *(f"source.path='{DATA / 'train'}'", f"teacher.weights='{DATA / 'teacher.safetensors'}'"),
        ],
    )

    summary = recipe.run()

    assert isinstance(summary, DumpSummary)
    assert summary.manifest.source_fingerprint == open_store(store).manifest.source_fingerprint


def test_a_teacher_without_weights_is_warned_about(tmp_path: Path) -> None:
    recipe = dump(tmp_path / "store", teacher=TeacherModel(model="softlab:grey_resnet"))

    with pytest.warns(RandomWeights, match=r"^no `teacher.weights`, so the teacher's weights are random$"):
        recipe.run()


def test_a_dump_without_a_place_is_refused_unless_it_is_a_plan() -> None:
    with pytest.raises(InvalidOption, match=r"^`out` is missing\. Give it as a flag, with --set, or in a recipe\.$"):
        dump(None)
    assert dump(None, plan=True).out is None


def student_as_teacher(tmp_path: Path, store: Path) -> DumpRecipe:
    """A dump of a small one that softlab has trained and saved; of its input the recipe says nothing."""
    train(store, tmp_path / "run").run()
    teacher = TeacherModel(model="softlab:grey_mlp", weights=tmp_path / "run/mlp/last.safetensors")
    return replace(dump(tmp_path / "told", teacher=teacher), input=ImageInput(), dump=DumpOptions(k=4, shard_rows=64))


def test_weights_of_a_student_bring_their_input_and_class_names(tmp_path: Path, store: Path) -> None:
    recipe = student_as_teacher(tmp_path, store)

    recipe.run()
    replace(recipe, out=tmp_path / "same", input=INPUT).run()

    told = open_store(tmp_path / "told")
    assert told.manifest.inputs[0].options["mean"] == [0.286]
    assert told.digest == open_store(tmp_path / "same").digest
    other = ImageInput(mean=(0.4,))
    with pytest.raises(InvalidOption, match=r"`input\.mean = \[0\.4\]`, but the weights were trained with \[0\.286\]"):
        replace(recipe, out=tmp_path / "other", input=other).run()
    with pytest.raises(InvalidOption, match=r"`teacher\.input\.mean = \[0\.4\]`, but"):
        replace(recipe, out=tmp_path / "other", teacher=replace(recipe.teacher, input=other)).run()
    assert not (tmp_path / "other").exists()


def test_class_names_beside_weights_that_tell_others_are_refused(tmp_path: Path, store: Path) -> None:
    names = open_store(store).class_names
    assert names is not None
    (tmp_path / "names.txt").write_text("\n".join(names[::-1]))

    recipe = student_as_teacher(tmp_path, store)
    with pytest.raises(InvalidOption, match=r"names\.txt: has other class names than the weights .* Leave `class_name"):
        replace(recipe, class_names=tmp_path / "names.txt").run()


def test_targets_of_class_folders_are_counted_as_the_weights_name_them(tmp_path: Path, store: Path) -> None:
    recipe, folder = student_as_teacher(tmp_path, store), SourceOptions(path=str(as_class_folders(tmp_path / "some")))

    with pytest.warns(OddLabels, match=r"those of softlab:grey_mlp: 8 of 10 there, 'T-shirt/top', 'Sneaker' have no"):
        replace(recipe, source=folder).run()

    named, source = open_store(tmp_path / "told"), open_source(folder)
    assert named.class_names == open_store(store).class_names
    assert named.manifest.statistics["logits"].rows_with_target == len(source)
    table = named.read_samples()
    assert table.targets_N is not None
    assert [key.partition("/")[0] for key in table.keys] == [(named.class_names or ())[n] for n in table.targets_N]
