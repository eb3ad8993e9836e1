from pathlib import Path

import pytest

from tests.evaluation.pictures import STUDENT, TEACHER, dense, make_store, measure


def test_agreement_is_with_the_teachers_own_largest_logit(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=1))

    expected = (dense(STUDENT).argmax(dim=1) == dense(TEACHER).argmax(dim=1)).double().mean().item()
    assert found.values["teacher_agreement"] == pytest.approx(expected, abs=1e-12)


def test_the_teacher_itself_agrees_with_its_store(tmp_path: Path) -> None:
    assert measure(make_store(tmp_path), module=TEACHER).values["teacher_agreement"] == 1
