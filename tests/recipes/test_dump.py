from pathlib import Path

import pytest

from softlab.errors import InvalidOption, RandomWeights
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.students import TeacherModel
from softlab.store.reader import open_store
from softlab.teacher.dump import DumpProgress, DumpSummary
from softlab.teacher.survey import Survey
from softlab.teacher.survey_run import SurveyProgress
from tests.recipes.demo import DATA, ROOT, dump


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
