# Shape letters: B samples in a batch.

import pickle

import pytest
import torch

from softlab.modalities.inputs import Collated, Inputs, Units

CPU = torch.device("cpu")
META = torch.device("meta")


def make_collated() -> Collated:
    return Collated(
        inputs=Inputs(positional=(torch.zeros(2, 3, 4, 5),), named={"mask": torch.ones(2, 7, dtype=torch.bool)}),
        units=Units(rows_B=torch.tensor([1, 2]), keys_R=torch.tensor([0, 3, 4])),
    )


def test_it_has_as_many_samples_as_rows_in_its_first_tensor() -> None:
    assert len(make_collated()) == 2
    assert len(Inputs(named={"ids": torch.zeros(5, 9)})) == 5


def test_everything_goes_to_the_device() -> None:
    moved = make_collated().to(META)

    assert {tensor.device for tensor in moved.tensors()} == {META}
    assert [tensor.shape for tensor in moved.tensors()] == [tensor.shape for tensor in make_collated().tensors()]
    assert len(list(moved.tensors())) == 4


def test_channels_last_is_the_order_of_tensors_with_four_axes_alone() -> None:
    moved = make_collated().to(CPU, channels_last=True)

    assert moved.inputs.positional[0].is_contiguous(memory_format=torch.channels_last)
    assert moved.inputs.named["mask"].is_contiguous()


@pytest.mark.parametrize("channels_last", [False, True])
def test_what_is_on_its_device_already_is_known(channels_last: bool) -> None:
    collated = make_collated().to(CPU, channels_last=channels_last)

    assert collated.is_on(CPU, channels_last=channels_last)
    assert not collated.is_on(CPU, channels_last=not channels_last)
    assert not collated.is_on(META, channels_last=channels_last)


def test_a_loaders_worker_can_send_it() -> None:
    again = pickle.loads(pickle.dumps(make_collated()))

    assert all(torch.equal(*pair) for pair in zip(again.tensors(), make_collated().tensors(), strict=True))
