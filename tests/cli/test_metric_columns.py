import pytest

from softlab.cli.metric_columns import has_accuracy


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (set(), True),
        ({"teacher_kl"}, True),
        ({"accuracy", "class_f1"}, True),
        ({"mean_average_precision", "micro_f1"}, False),
        ({"teacher_cosine"}, False),
    ],
)
def test_an_accuracy_is_shown_where_there_could_be_one(measured: set[str], expected: bool) -> None:
    assert has_accuracy(measured) is expected
