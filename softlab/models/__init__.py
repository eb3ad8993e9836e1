"""Teachers and students: building them, reading their weights, taking features from their layers."""

from softlab.models.build import ModelOptions, build_model
from softlab.models.taps import FeatureTaps, Pooling, Tap, parse_tap
from softlab.models.weights import load_weights, weights_fingerprint

__all__ = [
    "FeatureTaps",
    "ModelOptions",
    "Pooling",
    "Tap",
    "build_model",
    "load_weights",
    "parse_tap",
    "weights_fingerprint",
]
