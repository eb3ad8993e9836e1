import re

import pytest
import timm
import torch
import torchvision.models
from torch import Tensor, nn

from softlab.errors import DoubtfulLayout, InvalidOption, ModelError
from softlab.modalities.images.models import grey_cnn
from softlab.models.taps import FeatureTaps, Pooling, Tap, parse_tap

# Shape letters: B rows in a batch, C channels, H height, W width, L positions, D features.


class Branching(nn.Module):
    """Runs its layer `sometimes` only where asked to; its other layers give several things."""

    def __init__(self) -> None:
        super().__init__()
        self.sometimes = nn.Identity()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.named = NamedOutputs()

    def forward(self, x_BLD: Tensor, *, ask: bool = True) -> Tensor:
        x_BLD = self.sometimes(x_BLD) if ask else x_BLD
        self.named(x_BLD)
        attended: Tensor = self.attention(x_BLD, x_BLD, x_BLD)[0]
        return attended


class NamedOutputs(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"hidden": x}


@pytest.fixture
def resnet() -> nn.Module:
    model: nn.Module = torchvision.models.resnet18(num_classes=3).eval()
    return model


def taps(**texts: str) -> dict[str, Tap]:
    return {name: parse_tap(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("layer4.1", Tap(layer="layer4.1")),
        ("layer4.1:mean", Tap(layer="layer4.1", pooling="mean")),
        ("norm:cls", Tap(layer="norm", pooling="cls")),
        ("layers.3:mean:channels_last", Tap(layer="layers.3", pooling="mean", layout="channels_last")),
        ("layers.3:channels_last", Tap(layer="layers.3", layout="channels_last")),
    ],
)
def test_a_tap_is_read_from_text(text: str, tap: Tap) -> None:
    assert parse_tap(text) == tap


@pytest.mark.parametrize(
    ("text", "next_step"),
    [
        ("layer4:max", "Use one of none, mean, cls, flatten"),
        ("layer4:", "Use one of none, mean, cls, flatten"),
        ("layer4:mean:cls", "Use one of none, mean, cls, flatten"),
        (":mean", "Write LAYER or LAYER:POOLING"),
        ("", "Write LAYER or LAYER:POOLING"),
    ],
)
def test_a_tap_that_is_not_one_is_refused(text: str, next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        parse_tap(text)


def test_image_features_are_pooled_as_asked(resnet: nn.Module) -> None:
    asked = taps(whole="layer4", mean="layer4:mean", flat="layer4:flatten", pooled="avgpool:flatten")

    with torch.inference_mode(), FeatureTaps(resnet, asked) as features:
        resnet(torch.rand(2, 3, 64, 64))
        collected = features.collect()

    assert list(collected) == list(asked)
    assert {name: tuple(tensor.shape) for name, tensor in collected.items()} == {
        "whole": (2, 512, 2, 2),
        "mean": (2, 512),
        "flat": (2, 2048),
        "pooled": (2, 512),
    }
    torch.testing.assert_close(collected["mean"], collected["pooled"])
    assert torch.equal(collected["flat"], collected["whole"].flatten(1))


def test_token_features_are_pooled_as_asked() -> None:
    vit = timm.create_model("test_vit", num_classes=3).eval()
    asked = taps(whole="norm", mean="norm:mean", cls="norm:cls")

    with torch.inference_mode(), FeatureTaps(vit, asked) as features:
        vit(torch.rand(2, 3, 160, 160))
        collected = features.collect()

    assert collected["whole"].ndim == 3
    assert torch.equal(collected["cls"], collected["whole"][:, 0])
    torch.testing.assert_close(collected["mean"], collected["whole"].mean(1))


@pytest.mark.parametrize("pooling", ["none", "flatten"])
def test_work_in_place_by_later_layers_does_not_change_a_feature(resnet: nn.Module, pooling: Pooling) -> None:
    """torchvision's residual blocks add the shortcut in place to what `bn2` gave."""
    images_BCHW = torch.rand(2, 3, 64, 64)
    block = resnet.get_submodule("layer1.0")
    truth: list[Tensor] = []
    handle = block.get_submodule("bn2").register_forward_hook(lambda _, __, output: truth.append(output.clone()))

    with torch.inference_mode(), FeatureTaps(resnet, {"bn": Tap(layer="layer1.0.bn2", pooling=pooling)}) as features:
        resnet(images_BCHW)
        collected = features.collect()
    handle.remove()

    assert torch.equal(collected["bn"].flatten(), truth[0].flatten())


def test_gradients_flow_through_a_feature(resnet: nn.Module) -> None:
    with FeatureTaps(resnet, taps(stem="conv1:mean")) as features:
        resnet(torch.rand(2, 3, 64, 64))
        features.collect()["stem"].sum().backward()  # type: ignore[no-untyped-call]

    weight = resnet.get_submodule("conv1").weight
    assert isinstance(weight, nn.Parameter)
    assert weight.grad is not None


def test_a_tuple_gives_its_first_tensor() -> None:
    model = Branching()
    x_BLD = torch.rand(2, 3, 4)

    with FeatureTaps(model, taps(attended="attention")) as features:
        output_BLD = model(x_BLD)
        collected = features.collect()

    assert torch.equal(collected["attended"], output_BLD)


def test_an_output_without_a_tensor_is_refused() -> None:
    model = Branching()

    with (
        FeatureTaps(model, taps(named="named")),
        pytest.raises(ModelError, match=r"gives a dict, not a tensor\. Tap a layer inside it"),
    ):
        model(torch.rand(2, 3, 4))


@pytest.mark.parametrize(
    ("tap", "next_step"),
    [
        ("conv1:cls", "Use `conv1:none` or `conv1:flatten` or `conv1:mean`."),
        ("classifier:cls", "Use `classifier:none` or `classifier:flatten`."),
        ("classifier:mean", "Use `classifier:none` or `classifier:flatten`."),
    ],
)
def test_a_pooling_that_does_not_fit_the_output_is_refused(tap: str, next_step: str) -> None:
    model = grey_cnn(width=4)

    with FeatureTaps(model, taps(feature=tap)), pytest.raises(ModelError, match=re.escape(next_step)):
        model(torch.rand(2, 1, 28, 28))


def test_an_unknown_layer_lists_the_nearest(resnet: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"Did you mean .*layer4\.1"):
        FeatureTaps(resnet, taps(last="layer4.7"))


def test_a_layer_that_did_not_run_is_named() -> None:
    model = Branching()

    with FeatureTaps(model, taps(feature="sometimes")) as features:
        model(torch.rand(2, 3, 4), ask=True)
        model(torch.rand(2, 3, 4), ask=False)

        with pytest.raises(ModelError, match=r"`sometimes` gave nothing in the last forward\. Tap a layer that runs"):
            features.collect()


def test_features_are_forgotten_once_collected() -> None:
    model = Branching()

    with FeatureTaps(model, taps(feature="sometimes")) as features:
        model(torch.rand(2, 3, 4))
        features.collect()

        with pytest.raises(ModelError, match="Tap a layer that runs in each"):
            features.collect()


def test_hooks_are_removed_on_exit_and_after_an_error(resnet: nn.Module) -> None:
    with pytest.raises(RuntimeError), FeatureTaps(resnet, taps(stem="conv1")):
        resnet(torch.rand(2, 9, 8, 8))

    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in resnet.modules())


@pytest.mark.parametrize("pooling", ["none", "mean", "flatten"])
def test_features_stay_on_the_device_of_the_model(resnet: nn.Module, pooling: Pooling) -> None:
    resnet.to("meta")

    with torch.inference_mode(), FeatureTaps(resnet, {"last": Tap(layer="layer4", pooling=pooling)}) as features:
        resnet(torch.rand(2, 3, 64, 64, device="meta"))

        assert features.collect()["last"].is_meta


class ChannelsLast(nn.Module):
    """Its layer gives [B, H, W, C], as those of Swin do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.proj = nn.Conv2d(9, 9, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        found: Tensor = self.layer(images_BCHW.movedim(1, -1))
        pooled: Tensor = self.proj(found.movedim(-1, 1)).mean(dim=(2, 3))
        return pooled


IMAGES = torch.arange(2 * 9 * 2 * 2.0).reshape(2, 9, 2, 2)


def collect(model: nn.Module, **texts: str) -> dict[str, Tensor]:
    with torch.inference_mode(), FeatureTaps(model, taps(**texts)) as features:
        model(IMAGES)
        return features.collect()


def test_channels_that_are_last_are_turned_round_where_the_tap_says_so() -> None:
    found = collect(ChannelsLast(), mean="layer:mean:channels_last", whole="layer:channels_last")

    assert found["mean"].equal(IMAGES.mean(dim=(2, 3)))
    assert found["whole"].equal(IMAGES)


def test_a_model_of_timm_says_itself_that_its_channels_are_last() -> None:
    model = ChannelsLast()
    model.output_fmt = "NHWC"  # type: ignore[assignment]

    found = collect(model, mean="layer:mean", proj="proj")

    assert found["mean"].equal(IMAGES.mean(dim=(2, 3)))
    assert found["proj"].shape == IMAGES.shape  # a convolution knows its own


def test_a_feature_of_swin_has_the_width_of_its_layer() -> None:
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=56, window_size=2, depths=(1,) * 4)

    with torch.inference_mode(), FeatureTaps(swin.eval(), taps(last="layers.3:mean", norm="norm:mean")) as features:
        swin(torch.rand(1, 3, 56, 56))
        collected = features.collect()

    assert (collected["last"].shape, collected["norm"].shape) == ((1, swin.num_features), (1, swin.num_features))


def test_an_output_that_looks_like_channels_last_is_told_once_with_both_ways_out() -> None:
    model = ChannelsLast()

    with FeatureTaps(model, taps(mean="layer:mean")) as features:
        model(IMAGES)
        with pytest.warns(
            DoubtfulLayout, match=r"gives \[2, 2, 2, 9\], which is read as \[B, C, H, W\]: as 2 channels"
        ):
            features.collect()
        model(IMAGES)
        assert features.collect()["mean"].shape == (2, 2)


def test_channels_first_that_are_said_to_be_are_no_doubt() -> None:
    assert collect(ChannelsLast(), mean="layer:mean:channels_first")["mean"].shape == (2, 2)


def test_a_mean_over_other_positions_than_those_of_the_mask_is_refused() -> None:
    class Merging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.merge = nn.Identity()

        def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
            merged: Tensor = self.merge(states[:, ::2])
            return merged

    model = Merging()
    with (
        FeatureTaps(model, {"mean": parse_tap("merge:mean")}),
        pytest.raises(ModelError, match=r"gives \[1, 2, 5\] where the attention_mask is \[1, 4\].*Use `merge:cls`"),
    ):
        model(torch.zeros(1, 4, 5), attention_mask=torch.ones(1, 4))
