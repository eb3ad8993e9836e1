"""Which stored output of kind `values` the students of a run learn with their own, where they learn no soft labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.labels.losses import LossOnValues
from softlab.store.reader import Store
from softlab.student.options import LearnOptions, Student


def settle_values_outputs(
    students: Mapping[str, Student], shared: LearnOptions, stores: Sequence[Store]
) -> tuple[dict[str, Student], str | None]:
    """The same students, each loss on values with the output that it is about, and this output; None where all of them
    learn classes.

    Raises InvalidOption for an output that no store holds as values, or of which it isn't clear which one is meant, and
    for students of one run that learn different ones; StoreMismatch for stores without any.
    """
    own = {name: student.learn or shared for name, student in students.items()}
    settled = {name: _settled(learn, stores, student=name) for name, learn in own.items()}
    outputs = {name: _output_of(learn) for name, learn in settled.items()}
    first, output = next(iter(outputs.items()), ("", None))
    for name, other in outputs.items():
        if other != output:
            raise InvalidOption(
                f"students {first} and {name}: one learns {_in_words(output)}, the other {_in_words(other)}, and all "
                f"students of a run are measured alike. Train them in two runs."
            )
    if output is None:
        _check_all_have_labels(own, stores)
        return dict(students), None
    return {name: replace(each, learn=settled[name]) for name, each in students.items()}, output


def _settled(learn: LearnOptions, stores: Sequence[Store], *, student: str) -> LearnOptions:
    loss = learn.loss
    if not isinstance(loss, LossOnValues):
        return learn
    if not stores:
        raise InvalidOption(f"loss.name = {loss.name}: there is no store to learn from. Give `store`.")
    return replace(learn, loss=replace(loss, output=_choose(loss, stores, student=student)))


def _choose(loss: LossOnValues, stores: Sequence[Store], *, student: str) -> str:
    held = sorted({name for store in stores for name in store.feature_names})
    names = " and ".join(store.name for store in stores)
    if not held:
        raise StoreMismatch(
            f"student {student}: loss.name = {loss.name} learns stored values, but {names} holds classes alone "
            f"({', '.join(each.name for store in stores for each in store.manifest.classes)}). Say `loss.name = kl`, "
            f"or dump an output of kind values, as `dump.output = NAME:values`."
        )
    if loss.output is None and len(held) > 1:
        raise InvalidOption(
            f"student {student}: {names} holds several outputs of values ({', '.join(held)}). Say which one it learns, "
            f"as `loss.output = {held[0]}`."
        )
    output = held[0] if loss.output is None else loss.output
    if output not in held:
        raise InvalidOption(
            f"loss.output = {output}: {names} holds no output of values of this name (values: {', '.join(held)}). "
            f"{suggest(output, held)}"
        )
    return output


def _output_of(learn: LearnOptions) -> str | None:
    return learn.loss.output if isinstance(learn.loss, LossOnValues) else None


def _in_words(output: str | None) -> str:
    return "classes" if output is None else f"the values {output}"


def _check_all_have_labels(learnt: Mapping[str, LearnOptions], stores: Sequence[Store]) -> None:
    """Raises StoreMismatch for a store of values beside one of classes, where nothing of it is learnt."""
    if not any(store.has_labels for store in stores):
        return
    features = {name for learn in learnt.values() for name in learn.feature}
    for store in stores:
        if not store.has_labels and features.isdisjoint(store.feature_names):
            raise StoreMismatch(
                f"{store.name}: holds no classes beside those of the other store, only values "
                f"({', '.join(store.feature_names)}), of which nothing is learnt. Learn one as a feature, as "
                f"`feature.{store.feature_names[0]}.layer = LAYER`, or leave the store out."
            )
