from collections.abc import Callable

import pytest
import torch
from torch import nn

from softlab.modalities.audio.models import audio_conv, audio_gru
from softlab.models.build import ModelOptions, build_model

MODELS = [audio_conv, audio_gru]
Make = Callable[..., nn.Module]


def spectra(*lengths: int, seed: int = 0) -> torch.Tensor:
    """Noise, also where a clip is filled up."""
    return torch.randn(len(lengths), max(lengths), 8, generator=torch.Generator().manual_seed(seed))


def build(make: Make, **arguments: int | bool) -> nn.Module:
    torch.manual_seed(0)
    return make(mels=8, width=16, num_classes=3, **arguments).eval()


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("per_frame", [False, True])
def test_what_fills_a_clip_up_changes_nothing(make: Make, per_frame: bool) -> None:
    module, spectra_BLM = build(make, per_frame=per_frame), spectra(40, 7)

    together = module(spectra_BLM, torch.tensor([40, 7]))[1]

    alone = module(spectra_BLM[1:, :7])[0]
    torch.testing.assert_close(together[:7] if per_frame else together, alone)


@pytest.mark.parametrize("make", MODELS)
def test_clips_of_one_length_need_no_lengths(make: Make) -> None:
    module, spectra_BLM = build(make), spectra(12, 12)

    torch.testing.assert_close(module(spectra_BLM), module(spectra_BLM, torch.tensor([12, 12])))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("per_frame", "shape"), [(False, (2, 3)), (True, (2, 9, 3))])
def test_it_gives_logits_of_clips_or_of_frames(make: Make, per_frame: bool, shape: tuple[int, ...]) -> None:
    assert build(make, per_frame=per_frame)(spectra(9, 5), torch.tensor([9, 5])).shape == shape


def test_a_frame_of_the_convolutions_sees_30_frames_to_each_side() -> None:
    module, spectra_BLM = build(audio_conv, per_frame=True), spectra(101).requires_grad_()

    module(spectra_BLM)[0, 50].sum().backward()

    assert spectra_BLM.grad is not None
    seen_L = spectra_BLM.grad[0].abs().sum(dim=1).nonzero()[:, 0]
    assert (int(seen_L[0]), int(seen_L[-1])) == (20, 80)


@pytest.mark.parametrize("name", ["softlab:audio_conv", "softlab:audio_gru"])
def test_it_is_built_by_its_name_for_what_its_input_tells(name: str) -> None:
    module = build_model(ModelOptions(model=name, arguments={"width": 16}), told={"mels": 5, "per_frame": True})

    assert module(torch.zeros(1, 4, 5)).shape == (1, 4, 2)
