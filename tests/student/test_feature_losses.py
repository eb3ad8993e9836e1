import math
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.models.taps import Tap
from softlab.student.feature_losses import FeatureLoss


def test_options_name_a_layer_as_taps_do() -> None:
    options = FeatureLoss(layer="layer4.1:mean")

    assert options.tap == Tap(layer="layer4.1", pooling="mean")
    assert (options.loss, options.weight, options.projector, options.normalisation) == ("mse", 1.0, "auto", "none")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": ""}, "feature: no layer is named. Write LAYER or LAYER:POOLING, e.g. layer4.1:mean."),
        (
            {"layer": "pool:max"},
            "feature pool: unknown pooling `max`. Use one of none, mean, cls, flatten. Where the layer gives "
            "[B, H, W, C], say :channels_last behind it.",
        ),
        (
            {"loss": "cosin"},
            "loss = cosin: expected one of mse, cosine, angle, attention, relational, relational_distance, "
            "relational_angle. Did you mean cosine?",
        ),
        (
            {"projector": "conv"},
            "projector = conv: expected one of auto, none, linear, conv1x1. Did you mean conv1x1?",
        ),
        (
            {"normalisation": "batchnorm"},
            "normalisation = batchnorm: expected one of none, batch, layer. Did you mean batch?",
        ),
        (
            {"projector": "none", "normalisation": "layer"},
            "normalisation = layer with projector = none: only what is projected is normalised. "
            "Set projector = auto, or normalisation = none.",
        ),
        *(
            ({"weight": weight}, f"weight = {weight}: expected a positive number. To learn without, leave it out.")
            for weight in (0.0, -1.0, math.inf, math.nan)
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        FeatureLoss(**{"layer": "pool"} | values)

    assert str(caught.value) == message
