"""The input of a model that is named in a recipe: what [input] says, or where it says nothing, as it was published."""

import warnings

from softlab.errors import PublishedInput
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.known_inputs import known_input
from softlab.models.build import ModelOptions
from softlab.ranks import is_first_rank

TOLERANCE = 0.01
"""By which a mean and std may differ from the published ones."""


def input_of(options: ModelOptions, given: ImageInput, *, key: str = "input") -> ImageInput:
    """`given`, the options of section `key`, unless it says nothing and the model is one that was published. Not one
    of other classes: it was trained anew, with an input that nobody knows here. Warns with PublishedInput where the
    published input is taken, or where another mean or std is."""
    if not isinstance(given, ImageInput):  # of another modality
        return given
    model, known = options.model, known_input(options.model)
    if known is None:
        return given
    takes_known = given == ImageInput() and "num_classes" not in options.arguments
    if takes_known:
        _note(f"input of {model} as it was published: {_described(known)}; for another say `{key}.mean`, ..")
    elif not (_are_near(given.mean, known.mean) and _are_near(given.std, known.std)):
        _note(f"{model} was published with another mean and std than `{key}.mean` and `{key}.std`: {_described(known)}")
    return known if takes_known else given


def _note(text: str) -> None:
    if is_first_rank():
        warnings.warn(text, PublishedInput, stacklevel=4)


def _described(known: ImageInput) -> str:
    height, width = known.size
    return (
        f"size {height} x {width}, resize {known.resize}, mean {', '.join(f'{each:.4g}' for each in known.mean)}, std "
        f"{', '.join(f'{each:.4g}' for each in known.std)}, {known.interpolation}"
    )


def _are_near(values: tuple[float, ...], published: tuple[float, ...]) -> bool:
    values = values * len(published) if len(values) == 1 else values
    return len(values) == len(published) and all(
        abs(one - other) <= TOLERANCE for one, other in zip(values, published, strict=True)
    )
