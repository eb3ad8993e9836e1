"""The transforms that a view may be made of, and how one is shown; torchvision, slow to import, is not needed."""

from collections.abc import Mapping
from typing import Any

from softlab.errors import InvalidOption
from softlab.manifest import TransformRecord

NEEDED = object()
"""In place of a default where there is none."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "AugMix": {
        "severity": 3,
        "mixture_width": 3,
        "chain_depth": -1,
        "alpha": 1.0,
        "all_ops": True,
        "interpolation": "bilinear",
        "fill": None,
    },
    "AutoAugment": {"policy": "imagenet", "interpolation": "nearest", "fill": None},
    "CenterCrop": {"size": NEEDED},
    "ColorJitter": {"brightness": None, "contrast": None, "saturation": None, "hue": None},
    "ElasticTransform": {"alpha": 50.0, "sigma": 5.0, "interpolation": "bilinear", "fill": 0},
    "GaussianBlur": {"kernel_size": NEEDED, "sigma": [0.1, 2.0]},
    "Grayscale": {"num_output_channels": 1},
    "Pad": {"padding": NEEDED, "fill": 0, "padding_mode": "constant"},
    "RGB": {},
    "RandAugment": {"num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31, "interpolation": "nearest", "fill": None},
    "RandomAdjustSharpness": {"sharpness_factor": NEEDED, "p": 0.5},
    "RandomAffine": {
        "degrees": NEEDED,
        "translate": None,
        "scale": None,
        "shear": None,
        "interpolation": "nearest",
        "fill": 0,
        "center": None,
    },
    "RandomApply": {"transforms": NEEDED, "p": 0.5},
    "RandomAutocontrast": {"p": 0.5},
    "RandomChannelPermutation": {},
    "RandomChoice": {"transforms": NEEDED, "p": None},
    "RandomCrop": {"size": NEEDED, "padding": None, "pad_if_needed": False, "fill": 0, "padding_mode": "constant"},
    "RandomEqualize": {"p": 0.5},
    "RandomErasing": {"p": 0.5, "scale": [0.02, 0.33], "ratio": [0.3, 3.3], "value": 0.0},
    "RandomGrayscale": {"p": 0.1},
    "RandomHorizontalFlip": {"p": 0.5},
    "RandomInvert": {"p": 0.5},
    "RandomOrder": {"transforms": NEEDED},
    "RandomPerspective": {"distortion_scale": 0.5, "p": 0.5, "interpolation": "bilinear", "fill": 0},
    "RandomPhotometricDistort": {
        "brightness": [0.875, 1.125],
        "contrast": [0.5, 1.5],
        "saturation": [0.5, 1.5],
        "hue": [-0.05, 0.05],
        "p": 0.5,
    },
    "RandomPosterize": {"bits": NEEDED, "p": 0.5},
    "RandomResizedCrop": {
        "size": NEEDED,
        "scale": [0.08, 1.0],
        "ratio": [0.75, 1.3333333333333333],
        "interpolation": "bilinear",
        "antialias": True,
    },
    "RandomRotation": {"degrees": NEEDED, "interpolation": "nearest", "expand": False, "center": None, "fill": 0},
    "RandomSolarize": {"threshold": NEEDED, "p": 0.5},
    "RandomVerticalFlip": {"p": 0.5},
    "Resize": {"size": NEEDED, "interpolation": "bilinear", "max_size": None, "antialias": True},
    "TrivialAugmentWide": {"num_magnitude_bins": 31, "interpolation": "nearest", "fill": None},
}
"""Parameters of each transform with torchvision's defaults, as a manifest would hold them."""

ALLOWED = tuple(PARAMETERS)

MAX_DEPTH = 4
"""Of transforms within transforms, and of lists within lists."""

MAX_SHOWN = 300
"""Characters of what is wrong that a message repeats."""

NESTED = "transforms"
"""The argument that holds further transforms."""


def describe_transform(record: TransformRecord, *, depth: int = 0) -> str:
    """As a person would write it, with the arguments that differ from torchvision's defaults."""
    if depth > MAX_DEPTH:  # of a manifest whose transforms were never built
        return f"{record.name}(...)"
    defaults = PARAMETERS.get(record.name, {})
    arguments = [
        f"{name}={_describe_value(name, record.arguments[name], depth=depth)}"
        for name in dict.fromkeys([*defaults, *record.arguments])
        if name in record.arguments
        and (name not in defaults or repr(defaults[name]) != repr(record.arguments[name]))  # 0 is not 0.0 in JSON
    ]
    return f"{record.name}({', '.join(arguments)})"


def _describe_value(name: str, value: Any, *, depth: int) -> str:
    if name == NESTED and isinstance(value, list):
        return "[" + ", ".join(describe_transform(as_record(item), depth=depth + 1) for item in value) + "]"
    return repr(value)


def as_record(value: Any) -> TransformRecord:
    """A transform within another, as a manifest holds it. Raises InvalidOption."""
    if isinstance(value, Mapping) and value.keys() == {"name", "arguments"}:
        name, arguments = value["name"], value["arguments"]
        if isinstance(name, str) and isinstance(arguments, dict):
            return TransformRecord(name=name, arguments=arguments)
    raise InvalidOption(f"{show(value)} isn't a transform. Write a call, such as RandomHorizontalFlip(0.5).")


def show(value: object) -> str:
    """What is wrong, as a message repeats it."""
    return shorten(repr(value))


def shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
