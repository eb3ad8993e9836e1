from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption
from softlab.store.reader import Store
from softlab.student.options import RunOptions
from tests.student.fashion import same_weights
from tests.student.pictures import make_store, make_student, stop_at, train


def trained(store: Store, **options: Any) -> nn.Module:
    """Without batch normalisation, whose statistics are those of each part."""
    student = make_student(batch_norm=False)
    train(student, store, optimizer="sgd", **options)
    return student


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_in_parts_makes_the_same_step_as_a_whole_one(parts: int, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")

    whole, in_parts = trained(store), trained(store, accumulate=parts)

    for one, other in zip(whole.parameters(), in_parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not same_weights(in_parts, make_student(batch_norm=False))


def test_dropout_differs_between_the_parts_of_a_batch(tmp_path: Path) -> None:
    """Of a batch of two equal halves, equal dropout would make the gradients of both equal."""
    masks = []
    student = make_student(dropout=0.5, batch_norm=False)
    dropout = student.get_submodule("dropout")
    dropout.register_forward_hook(lambda _module, _inputs, output: masks.append((output == 0).detach().clone()))

    train(student, make_store(tmp_path / "store"), accumulate=2, epochs=1)

    training = [mask for mask in masks if mask.any()]
    assert not training[0].equal(training[1])


def test_a_run_in_parts_goes_on_in_the_middle_of_an_epoch_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    options: dict[str, Any] = {"accumulate": 2, "checkpoint_steps": 1}
    straight = make_student(dropout=0.3)
    train(straight, store, **options)

    with pytest.raises(KeyboardInterrupt):
        train(make_student(dropout=0.3), store, out=tmp_path / "run", on_progress=stop_at(4), **options)
    gone_on = make_student(dropout=0.3)
    train(gone_on, store, out=tmp_path / "run", **options)

    assert same_weights(straight, gone_on)


@pytest.mark.parametrize("parts", [0, 3, 16])
def test_parts_that_a_batch_does_not_fall_into_are_refused(parts: int) -> None:
    with pytest.raises(InvalidOption, match=r"run\.accumulate = .*a divisor of `run\.batch_size`, 8"):
        RunOptions(batch_size=8, accumulate=parts)


def test_a_source_smaller_than_a_batch_that_does_not_fall_into_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="4 parts share each batch in equal parts"):
        train(make_student(), make_store(tmp_path / "store"), batch_size=64, accumulate=4, max_samples=6)
