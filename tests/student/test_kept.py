"""Students of those samples alone that the stored labels say something of."""

# Shape letters: N samples.

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softlab.errors import InvalidOption, OddSource
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.sources.source import Source
from softlab.sources.subset import chosen
from softlab.store.reader import Store
from softlab.student.inputs import align_inputs
from softlab.student.kept import keep_samples
from softlab.student.train import train_students
from tests.student.fashion import same_weights
from tests.student.pictures import NUM_PICTURES, make_options, make_store, make_student, pictures, train

ALL = list(range(NUM_PICTURES))
FLIPS = ViewRecipe(transforms=("RandomHorizontalFlip()",), seed=1)


def kept_of(store: Store, rule: str, *others: Store, **options: Any) -> list[int]:
    """Which pictures a rule keeps."""
    data = align_inputs(pictures(), [store, *others], (ImageInput(),), make_options(**options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OddSource)
        aligned, _ = keep_samples(data.aligned, make_options(keep=rule, **options))
    return [pictures().keys.index(key) for key in aligned.source.keys]


def probabilities(store: Store) -> np.ndarray[Any, Any]:
    """Of the classes in order, [N, C]."""
    labels = store.read(ALL)
    shares_NK = labels.logits_BK.double().softmax(dim=1)
    return np.asarray(shares_NK.scatter(1, labels.class_ids_BK, shares_NK))


def test_confident_samples_are_kept(first: Store) -> None:
    largest_N = probabilities(first).max(axis=1)
    threshold = float(np.median(largest_N))

    assert kept_of(first, f"max_prob >= {threshold}") == np.flatnonzero(largest_N >= threshold).tolist()


def test_samples_are_kept_on_which_two_teachers_agree(first: Store, second: Store) -> None:
    same_N = probabilities(first).argmax(axis=1) == probabilities(second).argmax(axis=1)
    assert 0 < same_N.sum() < NUM_PICTURES

    assert kept_of(first, "agree", second) == np.flatnonzero(same_N).tolist()


def test_a_second_teacher_of_no_weight_only_has_a_say_in_what_is_kept(first: Store, second: Store) -> None:
    largest_N = probabilities(first).max(axis=1)
    threshold = float(np.median(largest_N))

    kept = kept_of(first, f"max_prob >= {threshold}", second, teacher_weight=(1.0, 0.0))

    assert kept == np.flatnonzero(largest_N >= threshold).tolist()


def test_hard_targets_that_the_teacher_gets_right_are_kept(first: Store) -> None:
    right_N = probabilities(first).argmax(axis=1) == pictures().targets_N

    assert kept_of(first, "correct") == np.flatnonzero(right_N).tolist()
    assert kept_of(first, "labelled and not correct") == np.flatnonzero(~right_N).tolist()


def test_figures_of_several_views_are_their_means(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", augment=FLIPS, views=2)
    largest_VN = [store.read(ALL, view=view).logits_BK.double().softmax(dim=1)[:, 0] for view in range(2)]
    mean_N = (largest_VN[0] + largest_VN[1]).numpy() / 2
    threshold = float(np.sort(mean_N)[10])

    found = kept_of(store, f"max_prob > {threshold + 1e-9}")

    assert found == np.flatnonzero(mean_N > threshold + 1e-9).tolist()


def test_a_run_on_kept_samples_is_one_on_these_samples_alone(first: Store) -> None:
    rule = "quantile(max_prob) > 0.5"
    part: Source = chosen(pictures(), np.array(kept_of(first, rule)))
    by_rule, by_hand = make_student(), make_student()

    train(by_rule, first, keep=rule, batch_size=4)
    train_students({"small": by_hand}, part, [first], make_options(batch_size=4, subset=True))

    assert same_weights(by_rule, by_hand)


def test_the_rule_looks_at_the_first_samples_alone_where_a_run_does(first: Store) -> None:
    assert kept_of(first, "not max_prob > 1", max_samples=10) == ALL[:10]


def test_what_was_kept_is_said_and_written_down(first: Store, tmp_path: Path) -> None:
    rule = "quantile(max_prob) > 0.5"
    told: list[str] = []
    kept = kept_of(first, rule)
    largest_N = probabilities(first).argmax(axis=1)

    train_students(
        {"small": make_student()},
        pictures(),
        [first],
        make_options(keep=rule, batch_size=4),
        out=tmp_path / "run",
        on_start=told.extend,
    )

    (line,) = [line for line in told if line.startswith("keeps")]
    assert line.startswith(f"keeps {len(kept)} of {NUM_PICTURES} samples ({rule}), of the teacher's classes ")
    record = json.loads((tmp_path / "run" / "run.json").read_text())["kept"]
    assert (record["rule"], record["samples"], record["of"]) == (rule, len(kept), NUM_PICTURES)
    assert sum(count for count, _ in record["classes"].values()) == len(kept)
    assert sum(of for _, of in record["classes"].values()) == NUM_PICTURES
    names = pictures().class_names
    assert names is not None
    assert record["classes"].keys() == {names[each] for each in largest_N}


def test_a_run_without_a_rule_writes_nothing_of_it(first: Store, tmp_path: Path) -> None:
    train(make_student(), first, out=tmp_path / "run")

    assert "kept" not in json.loads((tmp_path / "run" / "run.json").read_text())


def test_a_class_that_loses_all_of_its_samples_is_told(first: Store) -> None:
    largest_N = probabilities(first).max(axis=1)

    with pytest.warns(OddSource, match=r"keeps no sample of \d of the .*quantile\(max_prob\) >= 0\.2"):
        train(make_student(), first, keep=f"max_prob >= {largest_N.max() - 1e-6}")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("max_prob > 1", r"keeps none of 24 samples \(max_prob is 0\.\d+ to 0\.\d+ here\)\. Ask for less"),
        ("correct and not labelled", r"keeps none of 24 samples \(correct holds for \d+, labelled holds for 24\)"),
        ("agree", r"agree compares the teachers of several stores, .*`teachers\.weight = \[1, 0\]`"),
    ],
)
def test_a_rule_that_keeps_nothing_or_can_not_be_answered_is_refused(first: Store, rule: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(make_student(), first, keep=rule)


def test_correct_needs_hard_targets(first: Store) -> None:
    unlabelled = replace(pictures(), targets_N=None)

    with pytest.raises(InvalidOption, match=r"has no hard targets, .* Leave correct and labelled out"):
        train(make_student(), first, source=unlabelled, keep="correct", alpha=1.0)


def test_figures_need_a_tail_at_temperature_1(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", k=3, temperature=(2.0,))

    with pytest.raises(InvalidOption, match=r"entropy is at temperature 1, .* has tails at 2\. Dump with 1 among"):
        train(make_student(), store, keep="entropy < 1", temperature=2.0)


def test_a_rule_without_a_store_has_no_effect(first: Store) -> None:
    with pytest.raises(InvalidOption, match=r"distil\.keep: has no effect without a store"):
        train(make_student(), keep="max_prob > 0.5")


def test_pseudo_labels_of_kept_samples_are_learnt_as_hard_targets_would_be(first: Store) -> None:
    rule = "quantile(max_prob) > 0.5"
    labelled = replace(pictures(), targets_N=probabilities(first).argmax(axis=1))
    by_teacher, by_target = make_student(batch_norm=False), make_student(batch_norm=False)

    (one,) = train(by_teacher, first, keep=rule, batch_size=4, loss="argmax", alpha=1.0)
    (other,) = train(by_target, first, source=labelled, keep=rule, batch_size=4, alpha=0.0)

    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)
