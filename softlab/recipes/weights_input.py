"""The input of a model whose weights tell it, as those of students do."""

import dataclasses
import warnings
from typing import Any

from softlab.errors import InvalidOption, PublishedInput
from softlab.manifest import InputRecord
from softlab.modalities.modality import told_anew, untold_input
from softlab.models.about import AboutWeights, read_about
from softlab.models.build import ModelOptions
from softlab.models.class_names import published_class_names
from softlab.ranks import is_first_rank


def about_weights(options: ModelOptions) -> AboutWeights | None:
    """What a model's weights say of themselves. Raises ModelError where that is damaged."""
    return None if options.weights is None else read_about(options.weights)


def input_of_weights(about: AboutWeights, given: Any, *, key: str = "input") -> Any:
    """The input options that these weights were trained with, but for what the given ones tell of another data set.
    Raises InvalidOption for an option of section `key` that says something else."""
    if about.input.modality != given.modality:
        raise InvalidOption(
            f"`{key}.modality = {given.modality}`, but the weights were trained on the modality "
            f"{about.input.modality}. Give that as `{key}.modality`."
        )
    recorded, defaults = told_anew(_as_recorded(type(given), about.input), given), type(given)()
    for field in dataclasses.fields(given):
        value, own = getattr(given, field.name), getattr(recorded, field.name)
        if value not in (getattr(defaults, field.name), own) and field.name != "max_pixels":
            raise InvalidOption(
                f"`{key}.{field.name} = {_told(value)}`, but the weights were trained with {_told(own)}. Leave "
                f"`{key}.{field.name}` out: they bring their own input."
            )
    return recorded


def seen_in_training(about: AboutWeights, input: Any) -> tuple[InputRecord, ...]:
    """How samples were decoded then; nothing where the input reads other fields than it did."""
    return (about.input,) if input == _as_recorded(type(input), about.input) else ()


def class_names_of(options: ModelOptions, about: AboutWeights | None) -> tuple[str, ...] | None:
    """What the classes of a model are called, as its weights tell; None where they don't."""
    return published_class_names(options) if about is None else about.class_names


def note_of_unknown(options: ModelOptions, given: Any) -> None:
    """Warns with PublishedInput about an input that nobody has told."""
    shown = untold_input(given)
    if shown and is_first_rank():
        warnings.warn(
            f"neither the weights of {options.model} nor the recipe say what input it takes, so that {shown}",
            PublishedInput,
            stacklevel=3,
        )


def _as_recorded(kind: type[Any], record: InputRecord) -> Any:
    """Raises InvalidOption for options that this softlab doesn't know."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.options.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidOption(
            f"the weights' input has options that are unknown here ({error}). Upgrade softlab."
        ) from error


def _told(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
