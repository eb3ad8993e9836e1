import numpy as np

from softlab.loading.label_check import label_note
from softlab.loading.sample_check import comparable_targets
from tests.teacher.dumping import Pictures

COUNT = 60
ALL = np.arange(COUNT)


def test_labels_of_other_classes_are_left_aside_and_told() -> None:
    few = Pictures(count=COUNT, class_names=("ant", "bee"), targets_N=ALL % 2)
    many = Pictures(count=COUNT, class_names=None, targets_N=ALL % 12)

    assert comparable_targets(few, num_classes=10) is None
    assert comparable_targets(many, num_classes=10) is None
    assert "labels of other classes (2 classes, the teacher or model has 10), left aside" in label_note(
        few, ALL, ALL % 10, num_classes=10
    )
    assert "(labels up to 11, " in label_note(many, ALL, ALL % 10, num_classes=10)


def test_labels_that_count_from_1_are_left_aside_with_the_reason() -> None:
    source = Pictures(count=COUNT, class_names=None, targets_N=ALL % 10 + 1)

    assert "the labels count from 1" in label_note(source, ALL, ALL % 10, num_classes=10)


def test_labels_that_agree_and_sources_without_any_give_no_note() -> None:
    agreeing = Pictures(count=COUNT, class_names=None, targets_N=ALL % 10)

    assert label_note(agreeing, ALL, ALL % 10, num_classes=10) == ""
    assert label_note(Pictures(count=COUNT, class_names=None), ALL, ALL % 10, num_classes=10) == ""


def test_of_a_store_that_has_the_wrong_order_too_the_way_out_is_another_dump() -> None:
    """Names that are given afresh would be aligned with those of the store by name."""
    many = np.arange(240)
    source = Pictures(count=240, class_names=tuple("jihgfedcba"), targets_N=9 - many % 10)

    before, after = (label_note(source, many, many % 10, num_classes=10, is_stored=known) for known in (False, True))

    order = """the teacher's order as `source.class_names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]`"""
    assert f". Give {order}" in before
    assert f". Dump again with {order}" in after
    assert after.endswith("or train on the teacher's labels alone with `teachers.alpha = 1`")


def test_few_numbers_under_many_classes_that_the_teacher_never_gets_right_are_left_aside() -> None:
    source = Pictures(count=COUNT, class_names=None, targets_N=ALL % 5)
    guessed, right = 100 + ALL, ALL % 5
    right[:20] = 700

    note = label_note(source, ALL, guessed, num_classes=1000)

    assert "left aside: its labels go up to 4, the teacher or model has 1,000 classes" in note
    assert "is the label of 0 of 60 samples that were looked at" in note
    assert "say `check.labels = same`, in a dump `dump.labels = same`" in note
    assert label_note(source, ALL, right, num_classes=1000) == ""
    assert label_note(source, ALL, guessed % 30, num_classes=30) == ""
    assert label_note(source, ALL, guessed, num_classes=1000, labels="same") == ""
    assert label_note(source, ALL, guessed, num_classes=1000, labels="other") == ""


def test_few_numbers_that_the_teacher_hardly_ever_gets_right_are_doubted() -> None:
    source = Pictures(count=COUNT, class_names=None, targets_N=ALL % 5)
    hardly = np.where(ALL < 6, ALL % 5, 100 + ALL)

    assert "leave them aside with `check.labels = other`" in label_note(source, ALL, hardly, num_classes=1000)
