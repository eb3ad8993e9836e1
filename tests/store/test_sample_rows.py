# Shape letters: N samples, C classes.

from pathlib import Path

import numpy as np
import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.soft_labels import Head
from softlab.store.reader import open_store
from softlab.store.sample_rows import sample_rows
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, forward_of, make_options, make_teacher, read_all

TARGETS_N = np.arange(50) % NUM_CLASSES


def test_rows_have_the_classes_that_the_teacher_gave_by_name(tmp_path: Path) -> None:
    source = Pictures(targets_N=TARGETS_N)
    dump(tmp_path / "store", make_options(coding="float32"), source=source)

    rows = sample_rows(read_all(tmp_path / "store")[0], 4, top=2)

    probability_NC = forward_of(make_teacher(), source, make_options()).double().softmax(dim=1)
    assert [row.index for row in rows] == [0, 16, 32, 49]
    for row in rows:
        best = probability_NC[row.index].topk(5)
        assert (row.key, row.target) == (source.keys[row.index], row.index % NUM_CLASSES)
        assert row.target_name == f"class {row.target}"
        assert [each.name for each in row.classes] == [f"class {each}" for each in best.indices[:2].tolist()]
        assert [each.probability for each in row.classes] == pytest.approx(best.values[:2].tolist(), rel=1e-5)
        assert row.tail == pytest.approx(1 - best.values.sum().item(), rel=1e-4)
        assert row.confidence == row.classes[0].probability
        assert row.content_hash == source.read(row.index).content_hash


def test_under_a_sigmoid_head_each_class_is_a_choice_of_its_own(tmp_path: Path) -> None:
    head: Head = "sigmoid"
    dump(tmp_path / "store", make_options(coding="float32", head=head))

    (row,) = sample_rows(read_all(tmp_path / "store")[0], 1)

    ranked_C = forward_of(make_teacher(), Pictures(), make_options())[0].double().sigmoid().sort(descending=True).values
    assert [each.probability for each in row.classes] == pytest.approx(ranked_C[:3].tolist(), rel=1e-5)
    assert row.tail == pytest.approx(ranked_C[5:].mean().item(), rel=1e-4)


def test_targets_of_other_classes_than_the_teachers_get_none_of_its_names(tmp_path: Path) -> None:
    two = Pictures(targets_N=TARGETS_N % 2, class_names=("cat", "dog"))
    dump(tmp_path / "store", source=two)

    (row,) = sample_rows(read_all(tmp_path / "store")[0], 1)

    assert (row.target, row.target_name) == (0, None)
    assert row.classes[0].name is None
    assert str(row.classes[0]).startswith("class ")


def test_without_a_tail_at_1_the_lowest_temperature_is_shown(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(temperature=(4.0, 2.0)))

    (row,) = sample_rows(read_all(tmp_path / "store")[0], 1)

    assert row.temperature == 2.0


def test_a_store_without_labels_or_no_rows_at_all_is_refused(tmp_path: Path) -> None:
    dump(tmp_path / "labels")
    dump(tmp_path / "values", make_options(output=("map:values=layer:conv",)))

    with pytest.raises(InvalidOption, match="Ask for 8 rows"):
        sample_rows(read_all(tmp_path / "labels")[0], 0)
    with pytest.raises(StoreMismatch, match="holds no soft labels"):
        sample_rows(open_store(tmp_path / "values"), 1)
