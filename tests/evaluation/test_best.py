import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softlab.errors import InvalidOption
from softlab.evaluation.best import check_best_by, choose_metric, is_better, score
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.loading.aligned import Aligned, beside_store
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.source import Source
from softlab.store.reader import Store
from tests.evaluation.pictures import COUNT, PICTURES, make_store
from tests.teacher.augmenting import MIXING, dump_views, open_uncached
from tests.teacher.dumping import dump, make_options, make_teacher

UNLABELLED = replace(PICTURES, targets_N=None)
OF_VALUES = {"values", "teacher values"}
OF_OTHERS = {*OF_VALUES, "label sets", "entities", "answers", "relevance", "vocabulary", "sampled rows", "attack"}


def align(source: Source, store: Store | None = None) -> Aligned:
    if store is None:
        return Aligned(source=source, inputs=(ImageInput(),))
    return beside_store(source, store, (ImageInput(),), subset=False, verify="some")


def measured(**values: float) -> Evaluation:
    return Evaluation(rows=1, values=values)


# By which metric.


def test_by_itself_it_is_accuracy_where_targets_are_known_and_else_kl_to_the_teacher(tmp_path: Path) -> None:
    store = make_store(tmp_path)

    assert choose_metric("auto", align(PICTURES)) == choose_metric("auto", align(PICTURES, store)) == "accuracy"
    assert choose_metric("auto", align(UNLABELLED, store)) == "teacher_kl"
    unknown = replace(PICTURES, targets_N=np.full(COUNT, -1))
    assert choose_metric("auto", align(unknown, store)) == "teacher_kl"


def test_by_itself_it_is_kl_to_the_teacher_where_views_are_mixed(tmp_path: Path) -> None:
    dump_views(tmp_path / "store", 1, augment=MIXING, source=PICTURES)

    assert choose_metric("auto", align(PICTURES, open_uncached(tmp_path / "store"))) == "teacher_bucket_kl"


def test_it_is_the_kl_of_the_kept_classes_where_not_all_are(tmp_path: Path) -> None:
    store = make_store(tmp_path, k=4)

    assert choose_metric("auto", align(UNLABELLED, store)) == "teacher_bucket_kl"
    with pytest.raises(InvalidOption, match="its store keeps only some classes of each row"):
        choose_metric("teacher_kl", align(PICTURES, store))


@pytest.mark.parametrize("name", [name for name, metric in METRIC_BY_NAME.items() if not metric.needs & OF_OTHERS])
def test_any_metric_of_classes_can_be_named(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path, k=4) if "cut rows" in METRIC_BY_NAME[name].needs else make_store(tmp_path)

    assert choose_metric(name, align(PICTURES, store)) == name


def test_an_unknown_metric_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidOption) as caught:
        check_best_by("acuracy")
    assert str(caught.value) == (
        "run.best_by = acuracy: no such metric. Did you mean accuracy or top5_accuracy or robust_accuracy? Change "
        "`run.best_by`."
    )


def test_a_metric_of_targets_is_refused_where_none_is_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption) as caught:
        choose_metric("accuracy", align(UNLABELLED, make_store(tmp_path)))
    assert str(caught.value) == (
        f"run.best_by = accuracy: accuracy can't be measured on {UNLABELLED.name}: it has no hard targets, or its "
        "views are mixed from two samples and have no one target, or its samples have several rows each. Choose "
        "another `run.best_by` (here: teacher_agreement, teacher_kl, teacher_jensen_shannon), or give another "
        "`valid.path` or `valid_store`."
    )


def test_a_metric_of_the_teacher_is_refused_without_a_store() -> None:
    with pytest.raises(InvalidOption, match="there is no store of a teacher's output for it"):
        choose_metric("teacher_kl", align(PICTURES))


def test_a_divergence_is_refused_under_a_sigmoid_head(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(k=4, head="sigmoid"), teacher=make_teacher(), source=PICTURES)

    with pytest.raises(InvalidOption, match="its store is of a teacher with a sigmoid head"):
        choose_metric("teacher_kl", align(PICTURES, open_uncached(tmp_path / "store")))


def test_where_nothing_can_be_measured_that_is_refused_too() -> None:
    with pytest.raises(
        InvalidOption, match=r"auto: accuracy and teacher_agreement can't be measured .* \(here: none\)"
    ):
        choose_metric("auto", align(UNLABELLED))


# Which is better.


@pytest.mark.parametrize(
    ("by", "better", "worse"),
    [
        ("accuracy", 0.8, 0.7),
        ("teacher_agreement", 0.1, 0.0),
        ("teacher_kl", 0.2, 3.0),
        ("calibration_error", 0.0, 1.0),
    ],
)
def test_more_is_better_of_a_share_and_less_of_an_error(by: str, better: float, worse: float) -> None:
    good, bad = measured(**{by: better}), measured(**{by: worse})

    assert is_better(good, than=bad, by=by)
    assert not is_better(bad, than=good, by=by)
    assert score(good, by=by) > score(bad, by=by)


def test_an_equal_epoch_is_no_better_one() -> None:
    assert not is_better(measured(accuracy=0.5), than=measured(accuracy=0.5), by="accuracy")


def test_the_first_epoch_is_the_best_so_far_whatever_it_measures() -> None:
    assert is_better(measured(), than=None, by="teacher_kl")


def test_what_was_not_measured_is_worst() -> None:
    assert score(None, by="teacher_kl") == score(measured(accuracy=1), by="teacher_kl") == -math.inf
    assert is_better(measured(teacher_kl=1e9), than=measured(), by="teacher_kl")
