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
