"""Several outputs of a store, read as rows of its samples."""

# Shape letters: B samples in a batch, R rows, C classes.

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import softlab
from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.class_map import ClassesOptions
from softlab.labels.joined_labels import LOWEST_LOGIT, finite_logits
from softlab.labels.selection import keep_top_k
from softlab.store.format import FormatName
from softlab.store.joined import JoinedStore, join_outputs
from softlab.store.mapped import map_store
from softlab.store.reader import open_store
from tests.store.building import FORMATS
from tests.teacher.dumping import Pictures, dump, images_of, make_options

COUNT, CLASSES = 30, 20


class TwoHeads(nn.Module):
    """Logits of three kinds, computed of the pictures."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.small = nn.Linear(72, CLASSES), nn.Linear(72, CLASSES), nn.Linear(72, 7)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        flat = images_BCHW.flatten(1) * 20
        heads = {"first": self.first, "second": self.second, "small": self.small}
        return {name: head(flat) for name, head in heads.items()} | {"values": flat}


def store_of(out: Path, **options: Any) -> softlab.Store:
    whole = {"output": ("first", "second", "small", "values:values"), "k": 5, "coding": "float32"} | options
    dump(out, make_options(**whole), teacher=TwoHeads(), source=Pictures(count=COUNT))
    return open_store(out)


@pytest.fixture(scope="module", params=FORMATS)
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> softlab.Store:
    format: FormatName = request.param
    return store_of(tmp_path_factory.mktemp("joined") / "store", format=format)


def test_each_sample_has_a_row_of_each_output(store: softlab.Store) -> None:
    joined = join_outputs(store, ("first", "second"))

    labels = joined.read([7, 2, 7])

    with torch.no_grad():
        expected = TwoHeads()(images_of(Pictures(count=COUNT), [7, 2, 7]))
    rows_RC = torch.stack([expected["first"], expected["second"]], dim=1).flatten(end_dim=1)
    wanted = keep_top_k(rows_RC, k=5)
    assert labels.class_ids_BK.equal(wanted.class_ids_BK)
    torch.testing.assert_close(labels.logits_BK, wanted.logits_BK)
    torch.testing.assert_close(labels.log_tail_BT, wanted.log_tail_BT)
    assert labels.counts_B is not None
    assert labels.counts_B.tolist() == [2, 2, 2]
    assert joined.counts([7, 2, 7]).tolist() == [2, 2, 2]  # type: ignore[union-attr]
    assert joined.read_units([7, 2]).tolist() == [0, 1, 0, 1]  # type: ignore[union-attr]
    assert (joined.rows_per_sample, joined.labels.name) == (2.0, "first-second")


def test_outputs_with_steps_of_their_own_are_read_each_with_its_own(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", coding="uint8")

    labels = join_outputs(store, ("second", "first")).read([3, 9])

    for place, name in enumerate(("second", "first")):
        assert labels.logits_BK[place::2].equal(store.with_labels(name).read([3, 9]).logits_BK)


def test_features_are_read_as_ever(store: softlab.Store) -> None:
    joined = join_outputs(store, ("first", "second"))

    assert joined.read_features("values", [4]).equal(store.read_features("values", [4]))
    assert joined.fits_cache(["values"])


def test_what_is_known_of_all_outputs_adds_up(store: softlab.Store) -> None:
    joined = join_outputs(store, ("first", "second"))

    assert joined.statistics.rows == 2 * COUNT
    masses = [store.with_labels(name).origin.captured_mass for name in ("first", "second")]
    assert joined.origin.captured_mass == pytest.approx([sum(pair) / 2 for pair in zip(*masses, strict=True)])


def test_another_process_reads_the_same(store: softlab.Store) -> None:
    joined = join_outputs(store, ("first", "second"))

    again = pickle.loads(pickle.dumps(joined))

    assert isinstance(again, JoinedStore)
    assert again.read([1]).logits_BK.equal(joined.read([1]).logits_BK)


def test_a_store_is_as_it_is_without_outputs_to_join(store: softlab.Store) -> None:
    joined = join_outputs(store, ("first", "second"))

    assert join_outputs(store, ()) is store
    assert join_outputs(joined, ("first", "second")) is joined


def test_outputs_over_other_classes_and_unknown_ones_are_refused(store: softlab.Store) -> None:
    with pytest.raises(
        StoreMismatch, match=re.escape("its outputs first (K=5 of 20, softmax) and small (K=5 of 7, so")
    ):
        join_outputs(store, ("first", "small"))
    with pytest.raises(InvalidOption, match=r"has no output 'start' of kind classes \(it has: first, second, small\)"):
        join_outputs(store, ("start", "end"))
    mapped = map_store(store, ClassesOptions(skip_first=1))
    with pytest.raises(InvalidOption, match="have no classes to map"):
        join_outputs(mapped, ("first", "second"))


def test_a_students_logits_are_finite_and_unseen_classes_as_unlikely_as_the_least_likely_seen() -> None:
    none = -torch.inf
    teacher_RC = torch.tensor([[1.0, 2.0, 3.0, none], [1.0, 2.0, none, none]])
    student_RC = torch.tensor([[0.5, -1.0, none, none], [0.5, -1.0, none, none]], requires_grad=True)

    found_RC = finite_logits(student_RC, keep_top_k(teacher_RC, k=4, has_valid=True))

    assert found_RC.tolist() == [[0.5, -1.0, -1.0, LOWEST_LOGIT], [0.5, -1.0, LOWEST_LOGIT, LOWEST_LOGIT]]
    assert finite_logits(student_RC, None).tolist()[0] == [0.5, -1.0, LOWEST_LOGIT, LOWEST_LOGIT]
    found_RC[:, 2].sum().backward()  # type: ignore[no-untyped-call]
    assert student_RC.grad is not None
    assert student_RC.grad.abs().sum() == 0
