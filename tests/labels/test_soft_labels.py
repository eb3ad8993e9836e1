import math
import pickle
import re
import warnings
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from softlab.errors import InterpolatedTail, InvalidOption
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels, join_labels

# Shape letters: B rows in a batch, C classes.


def teacher_logits(*, num_classes: int = 1000, scale: float = 3.0, rows: int = 64) -> Tensor:
    return scale * torch.randn(rows, num_classes, generator=torch.Generator().manual_seed(0))


def tensors_of(labels: SoftLabels) -> list[Tensor]:
    return [labels.class_ids_BK, labels.logits_BK, labels.log_tail_BT, labels.max_logit_B]


def test_their_size_is_that_of_their_tensors() -> None:
    labels = keep_top_k(teacher_logits(rows=5), k=3)

    assert len(labels) == 5
    assert labels.k == 3
    assert labels.num_classes == 1000


def test_a_stored_temperature_gives_the_stored_tail_without_a_warning() -> None:
    labels = keep_top_k(teacher_logits(), k=16, temperatures=(1.0, 2.5))

    assert torch.equal(labels.log_tail_at(1.0), labels.log_tail_BT[:, 0])
    assert torch.equal(labels.log_tail_at(2.5), labels.log_tail_BT[:, 1])


@pytest.mark.parametrize(
    ("scale", "tolerance"),
    [  # nats of log tail mass; measured at K = 16 of 1,000: 2e-5, 0.003 and 0.3
        (1.0, 1e-4),
        (3.0, 0.01),
        (10.0, 0.5),  # as sharp as this, ask for the temperature when the store is made
    ],
)
@pytest.mark.parametrize("temperature", [1.5, 3.0, 6.0, 50.0])
def test_an_interpolated_tail_is_close(scale: float, tolerance: float, temperature: float) -> None:
    logits_BC = teacher_logits(scale=scale)
    labels = keep_top_k(logits_BC, k=16)

    with pytest.warns(InterpolatedTail, match=re.escape("is not stored (stored: 1, 2, 4)")):
        log_tail_B = labels.log_tail_at(temperature)

    exact_B = keep_top_k(logits_BC, k=16, temperatures=(temperature,)).log_tail_BT[:, 0]
    torch.testing.assert_close(log_tail_B, exact_B, rtol=0, atol=tolerance)
    assert (log_tail_B <= 0).all()


@pytest.mark.parametrize(
    ("scale", "tolerance"),
    [(1.0, 0.01), (3.0, 0.05), (10.0, 0.1)],  # nats of log mean probability; measured: 0.005, 0.016 and 0.032
)
@pytest.mark.parametrize("temperature", [1.5, 3.0, 6.0, 50.0])
def test_an_interpolated_mean_probability_is_close(scale: float, tolerance: float, temperature: float) -> None:
    logits_BC = teacher_logits(scale=scale) - 3
    labels = keep_top_k(logits_BC, k=16, head="sigmoid")

    with pytest.warns(InterpolatedTail):
        log_tail_B = labels.log_tail_at(temperature)

    exact_B = keep_top_k(logits_BC, k=16, temperatures=(temperature,), head="sigmoid").log_tail_BT[:, 0]
    torch.testing.assert_close(log_tail_B, exact_B, rtol=0, atol=tolerance)
    assert (log_tail_B <= 0).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_between_tails_without_mass_there_is_none(head: Head) -> None:
    labels = keep_top_k(teacher_logits(), k=16, head=head)
    labels.log_tail_BT[0] = -math.inf

    with pytest.warns(InterpolatedTail):
        log_tail_B = labels.log_tail_at(3.0)

    assert log_tail_B.isneginf().tolist() == [True] + [False] * 63


def test_one_stored_temperature_is_enough_to_interpolate() -> None:
    logits_BC = teacher_logits(scale=1.0)
    labels = keep_top_k(logits_BC, k=16, temperatures=(1.0,))

    with pytest.warns(InterpolatedTail):
        log_tail_B = labels.log_tail_at(2.0)

    exact_B = keep_top_k(logits_BC, k=16, temperatures=(2.0,)).log_tail_BT[:, 0]
    torch.testing.assert_close(log_tail_B, exact_B, rtol=0, atol=0.03)


def test_where_all_classes_are_kept_no_temperature_has_a_tail() -> None:
    labels = keep_top_k(teacher_logits(num_classes=10), k=10, temperatures=(1.0,))

    assert labels.log_tail_at(3.0).isneginf().all()
    assert labels.log_tail_at(0.5).isneginf().all()


@pytest.mark.parametrize("temperature", [0.5, 0.0, -1.0, math.nan, math.inf])
def test_a_temperature_below_the_stored_ones_is_refused(temperature: float) -> None:
    labels = keep_top_k(teacher_logits(), k=16)

    with pytest.raises(InvalidOption, match=r"Train at 1 or more, or dump again with .* among `dump\.temperature`"):
        labels.log_tail_at(temperature)


def test_another_device_changes_nothing_else() -> None:
    labels = keep_top_k(teacher_logits(), k=16, head="sigmoid")

    moved = labels.to("meta")

    assert {tensor.device.type for tensor in tensors_of(moved)} == {"meta"}
    assert [tensor.shape for tensor in tensors_of(moved)] == [tensor.shape for tensor in tensors_of(labels)]
    assert (moved.temperatures, moved.num_classes, moved.k) == (labels.temperatures, labels.num_classes, labels.k)
    assert moved.head == "sigmoid"


@pytest.mark.parametrize("k", [1, 16, 1000])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_they_travel_between_processes(rows: int, k: int) -> None:
    valid_B, counts_B = torch.arange(rows) % 5 + 1, torch.ones(rows, dtype=torch.int64)
    labels = replace(keep_top_k(teacher_logits(rows=rows), k=k), valid_B=valid_B, counts_B=counts_B, absolute=False)
    labels = replace(labels, entropy_B=torch.arange(rows, dtype=torch.float32))

    copy = pickle.loads(pickle.dumps(labels))

    for each in fields(labels):
        one, other = getattr(labels, each.name), getattr(copy, each.name)
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_a_part_travels_without_what_it_was_split_from() -> None:
    parts = keep_top_k(teacher_logits(), k=16).split([4, 60])
    parts[0].once_for_all("key", lambda whole: whole)  # made of the whole, which stays where it is

    data = pickle.dumps(parts[0])
    copy = pickle.loads(data)

    assert len(data) < len(pickle.dumps(parts[1])) / 4
    assert copy.block is None
    assert all(torch.equal(*pair) for pair in zip(tensors_of(copy), tensors_of(parts[0]), strict=True))


def test_how_many_rows_each_sample_has_travels_too() -> None:
    labels = replace(keep_top_k(teacher_logits(rows=6), k=16), counts_B=torch.tensor([1, 3, 2]))

    parts = [pickle.loads(pickle.dumps(part)) for part in labels.split([2, 1])]

    assert [part.counts_B.tolist() for part in parts] == [[1, 3], [2]]
    assert [len(part) for part in parts] == [4, 2]


@pytest.mark.gpu
def test_pinned_labels_are_the_same_ones() -> None:
    labels = keep_top_k(teacher_logits(), k=16)

    pinned = labels.pin_memory()

    assert all(tensor.is_pinned() for tensor in pinned.tensors())
    assert all(torch.equal(*pair) for pair in zip(tensors_of(pinned), tensors_of(labels), strict=True))


@pytest.mark.gpu
def test_labels_reach_a_gpu_unchanged() -> None:
    labels = keep_top_k(teacher_logits(), k=16)

    on_gpu = labels.to("cuda", non_blocking=True)
    torch.cuda.synchronize()

    assert all(torch.equal(ours.cpu(), its) for ours, its in zip(tensors_of(on_gpu), tensors_of(labels), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolatedTail)
        torch.testing.assert_close(on_gpu.log_tail_at(3.0).cpu(), labels.log_tail_at(3.0), rtol=1e-5, atol=1e-5)


def test_the_entropy_of_sampled_rows_goes_wherever_their_entries_go() -> None:
    entropy_B = torch.arange(6, dtype=torch.float32)
    labels = replace(keep_top_k(teacher_logits(rows=6), k=3), entropy_B=entropy_B)
    chosen_R, counts_B = torch.tensor([5, 0]), torch.tensor([1, 1])

    parts = labels.split([4, 2])

    assert [part.entropy_B.tolist() for part in parts if part.entropy_B is not None] == [[0, 1, 2, 3], [4, 5]]
    assert _entropy(parts[1].alone()).equal(entropy_B[4:])
    assert _entropy(join_labels(parts)).equal(entropy_B)
    assert _entropy(labels.at_rows(chosen_R, counts_B=counts_B)).tolist() == [5, 0]
    assert _entropy(labels.with_each(torch.clone)).equal(entropy_B)
    assert _entropy(labels.to("meta")).device.type == "meta"


def test_labels_tell_whether_they_are_sampled() -> None:
    labels = keep_top_k(teacher_logits(rows=6), k=3)

    sampled = replace(labels, entropy_B=torch.zeros(6))

    assert not labels.is_sampled
    assert sampled.is_sampled
    assert repr(sampled) == "SoftLabels(6 rows, sampled, K=3 of 1000, softmax, T = 1, 2, 4)"


def _entropy(labels: SoftLabels) -> Tensor:
    assert labels.entropy_B is not None
    return labels.entropy_B
