from pathlib import Path

import pytest

from tests.evaluation.pictures import TARGETS_N, TEACHER, dense, make_store, measure


def test_the_teachers_own_accuracy_is_over_the_rows_whose_target_is_known(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=4))

    is_right_N = dense(TEACHER).argmax(dim=1).numpy() == TARGETS_N
    assert found.values["teacher_accuracy"] == pytest.approx(is_right_N.sum() / (TARGETS_N >= 0).sum())
