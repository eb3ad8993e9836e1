"""Figures of validation that are good enough: how they are written, and when they are reached."""

import pytest

from softlab.errors import InvalidOption
from softlab.evaluation.evaluation import Evaluation
from softlab.student.target_metric import read_target


def test_more_of_a_share_is_better_and_less_of_a_divergence() -> None:
    found = Evaluation(rows=10, values={"accuracy": 0.9, "teacher_kl": 0.2})

    assert read_target("accuracy>=0.9").is_reached(found)
    assert not read_target("accuracy >= 0.91").is_reached(found)
    assert read_target("teacher_kl<=0.2").is_reached(found)
    assert not read_target("teacher_kl<=0.1").is_reached(found)
    assert not read_target("accuracy>=0").is_reached(None)
    assert not read_target("class_f1>=0").is_reached(found)


def test_it_is_written_as_it_is_read() -> None:
    for text in ("accuracy>=0.92", "teacher_kl<=0.05"):
        assert str(read_target(text)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("accuracy", r"expected METRIC>=VALUE"),
        ("accuracy>0.9", r"expected METRIC>=VALUE"),
        ("acuracy>=0.9", r"no such metric.*accuracy"),
        ("accuracy<=0.9", r"more accuracy is better. Write accuracy>="),
        ("teacher_kl>=0.1", r"less teacher_kl is better. Write teacher_kl<="),
        ("accuracy>=92", r"expected a share, 0 to 1. Write accuracy>=0.92"),
        ("accuracy>=nan", r"nan is no number"),
        ("accuracy>=high", r"high is no number"),
    ],
)
def test_what_it_cannot_be_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        read_target(text)
