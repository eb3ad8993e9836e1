import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.labels.coding import as_tensor
from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, TAIL_STEPS
from softlab.labels.sampled_coding import (
    COARSE,
    ENTROPY_STEPS,
    SampledCoding,
    frequent_classes,
)
from softlab.labels.soft_labels import SoftLabels
from tests.labels.sampled import dense_weights, make_logits, sample, weights_of

# Shape letters: R rows, C classes, E entries of all rows, K slots of one.

LOGITS = st.builds(
    make_logits,
    st.integers(1, 30),
    num_classes=st.sampled_from([1, 2, 16, 40, 700]),
    scale=st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0, 40.0]),
    seed=st.integers(0, 100),
)
RESOLUTIONS = st.sampled_from([1, 2, 16, 48, 254])


def coding_of(labels: SoftLabels, *, frequent: tuple[int, ...] = ()) -> SampledCoding:
    return SampledCoding(num_classes=labels.num_classes, resolution=labels.k - 1, frequent=frequent)


def entries_of(labels: SoftLabels) -> list[list[int]]:
    """Of each row the classes: the first, then the others by their ids, as their order is that of ranks."""
    rows = zip(labels.class_ids_BK.tolist(), (weights_of(labels) > 0).sum(dim=1).tolist(), strict=True)
    return [[ids[0], *sorted(ids[1:num])] for ids, num in rows]


@given(LOGITS, RESOLUTIONS, st.booleans())
def test_classes_come_back_as_they_were_and_weights_within_the_steps(
    logits_RC: Tensor, resolution: int, is_ranked: bool
) -> None:
    labels = sample(logits_RC, resolution=resolution)
    coding = coding_of(labels, frequent=frequent_classes(labels, most=100) if is_ranked else ())

    found = coding.decode(coding.encode(labels))

    assert entries_of(found) == entries_of(labels)
    weights_RC, found_RC = dense_weights(labels), dense_weights(found)
    step = COARSE / (TAIL_STEPS * resolution) + 1 / (16 * resolution)  # a tiny tail may be there, or not
    error_RC = (found_RC - weights_RC).abs()
    assert (error_RC <= weights_RC * math.expm1(coding.gap_step) + step * 1.01).all()
    assert (found_RC.sum(dim=1) - 1).abs().max() < 1e-5
    assert found.entropy_B is not None
    assert labels.entropy_B is not None
    assert (found.entropy_B - labels.entropy_B).abs().max() <= COARSE / ENTROPY_STEPS + 1e-5


@given(LOGITS, RESOLUTIONS)
def test_what_came_back_gives_the_same_bytes_again(logits_RC: Tensor, resolution: int) -> None:
    labels = sample(logits_RC, resolution=resolution)
    coding = coding_of(labels)
    arrays = coding.encode(labels)

    again = coding.encode(coding.decode(arrays))

    for name in ("class_ids", "num_head", "num_drawn", "tail", "entropy"):
        assert np.array_equal(again[name], arrays[name]), name


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_rounding_doesnt_move_means_of_rows_that_are_alike(scale: float) -> None:
    random = torch.Generator().manual_seed(0)
    row_C = scale * torch.randn(200, generator=random)
    logits_RC = torch.stack([row_C[torch.randperm(200, generator=random)] for _ in range(4000)])
    labels = sample(logits_RC, resolution=16)

    arrays = coding_of(labels).encode(labels)
    found = coding_of(labels).decode(arrays)

    assert found.entropy_B is not None
    assert labels.entropy_B is not None
    assert labels.entropy_B.std() < 1e-3
    assert abs(float(found.entropy_B.mean() - labels.entropy_B.mean())) < 4 * COARSE / ENTROPY_STEPS / 2 / 4000**0.5
    last_R1 = torch.from_numpy(arrays["num_head"].astype(int) + arrays["num_drawn"])[:, None] - 1
    tails = [
        (weights_of(each).gather(1, last_R1)[:, 0] * torch.from_numpy(arrays["num_drawn"])).mean()
        for each in (found, labels)
    ]
    assert abs(float(tails[0] - tails[1])) < 4 * COARSE / TAIL_STEPS / 16 / 2 / 4000**0.5


def test_arrays_are_as_they_are_said_to_be() -> None:
    labels = sample(make_logits(rows=20))
    coding = coding_of(labels)

    arrays = coding.encode(labels)

    assert {name: array.dtype.name for name, array in arrays.items()} == {
        **ROW_ARRAYS,
        **{name: dtype or coding.class_id_dtype for name, dtype in ENTRY_ARRAYS.items()},
    }
    num_entries = int((weights_of(labels) > 0).sum())
    assert {name: len(array) for name, array in arrays.items()} == {
        **dict.fromkeys(ROW_ARRAYS, 20),
        **dict.fromkeys(ENTRY_ARRAYS, num_entries),
    }
    assert arrays["num_head"].sum() + arrays["num_drawn"].sum() == num_entries


def test_an_example_by_hand() -> None:
    """Half the mass on class 3, a quarter on 7, and 5, 5 and 9 of the others, of 1/12 each at N = 4 or coarser."""
    weights_RK = torch.tensor([[1 / 2, 1 / 4, 1 / 12, 1 / 12, 1 / 12]])
    labels = replace(
        sample(make_logits(rows=1, num_classes=10), resolution=4),
        class_ids_BK=torch.tensor([[3, 7, 5, 5, 9]]),
        logits_BK=(weights_RK / weights_RK[:, :1]).log(),
        max_logit_B=weights_RK[:, 0].log(),
        entropy_B=torch.tensor([1.25]),
    )

    arrays = coding_of(labels).encode(labels)

    assert {name: array.tolist() for name, array in arrays.items()} == {
        "num_head": [2],
        "num_drawn": [3],
        "tail": [128],  # 3 drawn that weigh 1/4 are 2/4 less than they might
        "entropy": [20],
        "class_ids": [3, 7, 5, 0, 4],
        "gaps": [0, 6, 0, 0, 0],
    }
    assert frequent_classes(labels, known_C=np.array([0, 0, 0, 0, 0, 9, 0, 9, 0, 9])) == (5, 7, 9, 3)
    ranked = coding_of(labels, frequent=(9, 5)).encode(labels)
    assert ranked["class_ids"].tolist() == [5, 8, 0, 1, 0]


@pytest.mark.parametrize("num_classes", [1 << 16, (1 << 16) + 1])
def test_the_last_class_comes_back(num_classes: int) -> None:
    logits_RC = torch.full((2, num_classes), -np.inf)
    logits_RC[0, -1], logits_RC[1, -40:] = 1.0, 0.0

    labels = sample(logits_RC)
    coding = coding_of(labels)

    assert coding.class_id_dtype == ("uint16" if num_classes == 1 << 16 else "uint32")
    assert entries_of(coding.decode(coding.encode(labels))) == entries_of(labels)


def test_entries_are_slots_when_they_are_read() -> None:
    labels = sample(make_logits(rows=6), resolution=8)
    coding = coding_of(labels)
    arrays = coding.encode(labels)

    slots = coding.slots(arrays)
    found = coding.decode_tensors({name: as_tensor(array) for name, array in slots.items()})

    assert slots["class_ids"].shape == slots["gaps"].shape == (6, 9)
    assert all(map(torch.equal, found.tensors(), coding.decode(arrays).tensors()))
    assert found.is_sampled
    assert (found.k, found.absolute, found.interpolates, found.temperatures) == (9, False, False, (1.0,))
    assert [each.dtype for each in found.tensors()] == [each.dtype for each in labels.tensors()]


def test_ids_beyond_the_classes_are_never_given() -> None:
    """Whoever has forged a store reads nothing outside a student's logits."""
    labels = sample(make_logits(rows=6), resolution=8)
    coding = coding_of(labels)
    arrays = coding.encode(labels)
    arrays["class_ids"][:] = 65_535

    for frequent in ((), (3, 4)):
        found = replace(coding, frequent=frequent).decode(arrays)
        assert ((found.class_ids_BK >= 0) & (found.class_ids_BK < 500)).all()


def test_frequent_classes_are_those_of_most_entries() -> None:
    logits_RC = torch.full((8, 30), -9.0)
    logits_RC[:, 7], logits_RC[:3, 4], logits_RC[:3, 2] = 5.0, 5.0, 5.0

    labels = sample(logits_RC)

    assert frequent_classes(labels)[:3] == (7, 2, 4)
    assert frequent_classes(labels, most=2) == (7, 2)


def test_no_rows_are_no_arrays() -> None:
    labels = sample(make_logits(rows=0))
    coding = coding_of(labels)

    arrays = coding.encode(labels)

    assert {len(array) for array in arrays.values()} == {0}
    assert len(coding.decode(arrays)) == 0
