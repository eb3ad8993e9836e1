"""All metrics together: their names, and which of them some data tell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softlab.evaluation.metrics import METRIC_BY_NAME, measurable
from softlab.evaluation.metrics.needs import LACKING
from softlab.loading.aligned import Aligned, beside_store
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.source import Source
from softlab.store.reader import Store
from tests.evaluation.pictures import COUNT, PICTURES, make_store, measure
from tests.teacher.augmenting import MIXING, dump_views, open_uncached
from tests.teacher.dumping import NUM_CLASSES, dump, make_options, make_teacher

UNLABELLED = replace(PICTURES, targets_N=None)
OF_TARGETS = {"accuracy", "top5_accuracy", "class_f1", "matthews", "calibration_error"}
OF_A_TEACHER = {"teacher_agreement", "teacher_kl", "teacher_jensen_shannon"}
OF_RANKINGS = {"ndcg_at_10", "mrr_at_10", "ranked_share"}
OF_VALUES = {"pair_recall_at_1", "neighbour_accuracy", "teacher_overlap", "teacher_cosine", "teacher_mse"}


def names(source: Source, store: Store | None = None) -> set[str]:
    aligned = Aligned(source=source, inputs=(ImageInput(),))
    if store is not None:
        aligned = beside_store(source, store, (ImageInput(),), subset=False, verify="some")
    return {metric.name for metric in measurable(aligned)}


def test_no_two_metrics_share_a_name_or_a_column() -> None:
    assert list(METRIC_BY_NAME) == [metric.name for metric in METRIC_BY_NAME.values()]
    assert len({metric.column for metric in METRIC_BY_NAME.values()}) == len(METRIC_BY_NAME) == 30


def test_what_a_metric_may_lack_can_be_told() -> None:
    assert set().union(*(metric.needs for metric in METRIC_BY_NAME.values())) == LACKING.keys()


@pytest.mark.parametrize(("k", "lacking"), [(4, "whole rows"), (NUM_CLASSES, "cut rows")])
def test_with_targets_and_a_teacher_all_is_measured(tmp_path: Path, k: int, lacking: str) -> None:
    store = make_store(tmp_path, k=k)

    absent = {lacking, "label sets", "entities", "answers", "vocabulary", "sampled rows", "attack"}
    others = OF_VALUES | OF_RANKINGS
    expected = [n for n, metric in METRIC_BY_NAME.items() if not absent & metric.needs and n not in others]
    assert names(PICTURES, store) == set(expected) == set(measure(store).values)
    assert list(measure(store).values) == expected, "in the order in which they are shown"


def test_without_a_teacher_nothing_is_told_of_it() -> None:
    assert names(PICTURES) == OF_TARGETS == set(measure().values)


@pytest.mark.parametrize("source", [UNLABELLED, replace(PICTURES, targets_N=np.full(COUNT, -1))])
def test_without_a_known_target_there_is_no_accuracy(tmp_path: Path, source: Source) -> None:
    assert names(source) == set()
    assert names(source, make_store(tmp_path)) == OF_A_TEACHER


def test_mixed_views_have_no_accuracy_but_a_teacher(tmp_path: Path) -> None:
    dump_views(tmp_path / "store", 1, augment=MIXING, source=PICTURES, k=NUM_CLASSES)
    store = open_uncached(tmp_path / "store")

    found = measure(store, per_class=True)

    assert names(PICTURES, store) == OF_A_TEACHER == set(found.values)
    assert found.classes is None


def test_a_sigmoid_head_has_an_agreement_but_no_distribution_to_compare(tmp_path: Path) -> None:
    options = make_options(k=4, head="sigmoid")
    dump(tmp_path / "store", options, teacher=make_teacher(), source=PICTURES)
    store = open_uncached(tmp_path / "store")

    known = {"accuracy", "top5_accuracy", "class_f1", "matthews", "teacher_accuracy", "teacher_agreement"}
    assert names(PICTURES, store) == known == set(measure(store).values)
