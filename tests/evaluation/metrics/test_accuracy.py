import pytest

from tests.evaluation.pictures import COUNT, STUDENT, TARGETS_N, dense, measure


def test_accuracy_is_over_the_rows_whose_target_is_known() -> None:
    found = measure()

    hits_N = dense(STUDENT).argmax(dim=1).numpy() == TARGETS_N
    assert found.rows == COUNT
    assert found.values["accuracy"] == pytest.approx(hits_N[TARGETS_N >= 0].mean(), abs=1e-12)
