"""What a modality is, and how one is found by its name."""

import dataclasses
import functools
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import softlab.modalities
from softlab.errors import InvalidOption, OddSource, SoftlabError, UnreadableSample, suggest
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.inputs import RECORDED_ELSEWHERE, RECORDED_IF_OTHER, Collated, InputBounds
from softlab.modalities.views import Example, Replay
from softlab.ranks import is_first_rank
from softlab.sources.options import SourceOptions
from softlab.sources.source import Raw, Sample, Source, read_samples, unreadable
from softlab.sources.spread import spread_indices
from softlab.users_code import import_users_module

DEFAULT_MODALITY = "images"

LOOKED_AT = 128
"""Samples from all over a source that tell what is left to it."""

CHECKED_AT_A_TIME = 1024
"""Samples of a source that are read together where all are looked at."""

OpenDataSet = Callable[[str, SourceOptions], Source]
"""From a name behind the prefix, and the options."""


class InputOptions(Protocol):
    """How one model wants its samples: a frozen, hashable dataclass of numbers, strings and tuples of them."""

    modality: ClassVar[str]
    """Name of the modality that these are options of."""


class Modality(Protocol):
    """What one kind of field means. All of its state is constant, so that it may be used in any process."""

    @property
    def name(self) -> str:
        """What `find_modality` finds it by."""
        ...

    @property
    def field(self) -> str:
        """The field of a sample that it reads, where there are several."""
        ...

    @property
    def libraries(self) -> tuple[str, ...]:
        """Installed packages whose version may change a view or an input, besides torch."""
        ...

    @property
    def input_options(self) -> type[Any]:
        """The dataclass of its `InputOptions`, which has a default for each field."""
        ...

    @property
    def view_options(self) -> type[Any]:
        """The dataclass of its `ViewOptions`, which has a default for each field; `NoViews` where it has no views."""
        ...

    @property
    def data_sets(self) -> Mapping[str, OpenDataSet]:
        """Data sets of its own by prefix: `torchvision` for paths such as torchvision:CIFAR10."""
        ...

    def decode(self, raw: Raw) -> Example:
        """What a field holds. May raise anything for one that can't be decoded."""
        ...

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> Replay:
        """What makes the views of a data set. `recipe_N` is the recipe index of each sample of a store, where it
        differs from the store index. Raises InvalidOption for views that it can't make."""
        ...

    def digest(self, example: Example) -> int:
        """64 bits that stand for a view."""
        ...

    def collate(self, examples: Sequence[Example], options: Any) -> Collated:
        """Some examples as the input of a model; what one sample becomes doesn't depend on the others."""
        ...


@functools.cache  # batches ask for it again and again
def find_modality(name: str) -> Modality:
    """`softlab.modalities.NAME`, or a module of the user's own, `package.module`. Raises InvalidOption."""
    known = softlabs_modalities()
    if name in known:
        return _exposed(importlib.import_module(f"softlab.modalities.{name}"), name)
    try:
        module = import_users_module(name, tell=is_first_rank())
    except (ImportError, ValueError, TypeError) as error:
        raise InvalidOption(
            f"modality {name!r}: {error}. {suggest(name, known)} One of your own is written package.module; start "
            f"from the folder that holds it."
        ) from error
    return _exposed(module, name)


def softlabs_modalities() -> list[str]:
    """Names of those that are here."""
    return [module.name for module in pkgutil.iter_modules(softlab.modalities.__path__) if module.ispkg]


def default_input() -> Any:
    """The input options of a model where none are given."""
    return find_modality(DEFAULT_MODALITY).input_options()


def modality_of(options: InputOptions) -> Modality:
    """The modality that these are options of."""
    return find_modality(options.modality)


def options_by_name(options: InputOptions) -> dict[str, Any]:
    """For manifests and run records, without those of decoding."""
    own: Any = options
    return {
        each.name: value
        for each in dataclasses.fields(own)
        for value in [dataclasses.asdict(own)[each.name]]
        if RECORDED_ELSEWHERE not in each.metadata and (RECORDED_IF_OTHER not in each.metadata or value != each.default)
    }


def decoding_for(
    modality: Modality, inputs: Sequence[InputOptions], seen: Sequence[InputRecord] | None = None
) -> Modality:
    """The modality as it decodes samples for those of the inputs that are its own; where a store says what its teacher
    has `seen`, as for that store. A modality that decodes in one way alone has no `for_inputs`.

    Raises InvalidOption for inputs that contradict each other, StoreMismatch for one that contradicts the store.
    """
    bind = getattr(modality, "for_inputs", None)
    if bind is None:
        return modality
    own = [options for options in inputs if options.modality == modality.name]
    record = next((each for each in seen or () if each.modality == modality.name), None)
    bound: Modality = bind(own, record)
    return bound


def settle_input(options: Any, source: Source) -> Any:
    """The input options of a model for a data set, where they leave something to it: some samples tell. A modality that
    leaves nothing has no `settle_input`; one that looks at more than some has `samples_to_settle`. Of the samples of a
    store its record tells. Warns with OddSource about samples that are not ordinary."""
    modality, read = modality_of(options), getattr(source, "as_read", None)
    settle = getattr(modality, "settle_input", None)
    if settle is None:
        return options
    by_store = getattr(modality, "of_store", None)
    if read is not None and by_store is not None and read.modality == modality.name:
        return by_store(options, read)
    most = getattr(modality, "samples_to_settle", None)
    count = min(LOOKED_AT if most is None else most(options), len(source))
    modality = decoding_for(modality, (options,))
    looked_at = spread_indices(len(source), count=count).tolist()
    settled, note = settle(options, _some_raws(source, modality, looked_at))
    if note and is_first_rank():
        warnings.warn(f"{source.name}: {note}", OddSource, stacklevel=3)
    return settled


def as_settled(options: Any, record: InputRecord) -> Any:
    """The same, where a dump that was begun has settled it: no sample is read."""
    settle = getattr(modality_of(options), "as_settled", None)
    return options if settle is None else settle(options, record)


def restate_input(record: InputRecord, options: InputOptions) -> InputRecord:
    """How a begun dump decodes its samples from now on, where options say something of it that they didn't before."""
    restate = getattr(modality_of(options), "restated", None)
    restated: InputRecord = record if restate is None else restate(record, options)
    return restated


def find_same_input(begun: InputRecord, now: InputRecord, *, is_random: bool) -> Callable[[Raw], bool] | None:
    """Which samples are the same input by both records, though these differ; None where that can't be told of any.
    `is_random` is whether views are."""
    find = getattr(find_modality(now.modality), "find_same", None)
    if begun == now or begun.modality != now.modality or begun.field != now.field or find is None:
        return (lambda _: True) if begun == now else None
    found: Callable[[Raw], bool] | None = find(begun, now, is_random=is_random)
    return found


def outputs_of_input(options: Any) -> tuple[str, ...]:
    """What models of an input give together, each over the same classes and one row a sample, as the beginning and the
    end of an answer; none where they give logits alone, and where input options have no `outputs`."""
    outputs: tuple[str, ...] = getattr(options, "outputs", ())
    return outputs


def untold_input(options: Any) -> str:
    """What a model is shown whose input nobody tells: to follow "so that"; empty where these options tell it. A
    modality whose defaults suit any model has no `untold_input`."""
    tell = getattr(modality_of(options), "untold_input", None)
    return "" if tell is None else tell(options)


def fitted_input(options: Any, *, model: str) -> Any:
    """The input options of a model with what its name tells, such as its own tokenizer. A modality of which a name
    tells nothing has no `fitted`."""
    fit = getattr(modality_of(options), "fitted", None)
    return options if fit is None else fit(options, model)


def tells_relevance(options: Any) -> bool:
    """Whether what an input collates tells how relevant each candidate of a sample is."""
    return bool(getattr(options, "relevance_field", ""))


def told_anew(recorded: Any, given: Any) -> Any:
    """The input options that a model was trained with, and of the given ones those that are a data set's and not the
    model's. A modality without such options has no `told_anew`."""
    tell = getattr(modality_of(recorded), "told_anew", None)
    return recorded if tell is None else tell(recorded, given)


def tells_models(options: Any) -> bool:
    """Whether models of the modality are built for an input, and so after it is settled."""
    return hasattr(modality_of(options), "model_arguments")


def tells_units(options: Any) -> bool:
    """Whether samples themselves tell the units that models with this input have rows for, as texts their words; a
    modality of which none does has no `tells_units`."""
    tell = getattr(modality_of(options), "tells_units", None)
    return tell is not None and bool(tell(options))


def tells_targets(options: Any) -> bool:
    """Whether samples themselves tell the right class of each row, as tokens the one behind them; a modality of which
    none does has no `tells_targets`."""
    tell = getattr(modality_of(options), "tells_targets", None)
    return tell is not None and bool(tell(options))


def is_of_a_store(modality: Modality, example: Example) -> bool:
    """Whether an example is what a store holds of a sample: that vouches for it, and it has no digest of a view. A
    modality of which stores hold nothing has no `is_of_a_store`."""
    tell = getattr(modality, "is_of_a_store", None)
    return tell is not None and bool(tell(example))


def model_arguments(options: Any) -> dict[str, Any]:
    """What a model may want to know of its input when it is built, such as the size of a vocabulary. A modality that
    has nothing to tell has no `model_arguments`."""
    tell = getattr(modality_of(options), "model_arguments", None)
    return {} if tell is None else tell(options)


def check_known(source: Source, inputs: Sequence[InputOptions]) -> None:
    """Decode the samples of a source that settled none of these inputs, where one of them reads only what it knows, as
    categories: sooner than in the midst of a run. Raises UnreadableSample. A modality whose inputs read all that can be
    decoded has no `reads_only_known`."""
    for name in dict.fromkeys(options.modality for options in inputs):
        modality, own = find_modality(name), [options for options in inputs if options.modality == name]
        tell = getattr(modality, "reads_only_known", None)
        if tell is None or not any(map(tell, own)):
            continue
        decoding = decoding_for(modality, own)
        for start in range(0, len(source), CHECKED_AT_A_TIME):
            for sample in read_samples(source, range(start, min(start + CHECKED_AT_A_TIME, len(source)))):
                read_fully(sample, decoding)


def input_bounds(options: Any) -> InputBounds | None:
    """Between what an attack may change the only tensor that models with this input are called with; None where samples
    can't be changed a little, as texts. A modality of which none can has no `input_bounds`."""
    bounds = getattr(modality_of(options), "input_bounds", None)
    found: InputBounds | None = None if bounds is None else bounds(options)
    return found


def _some_raws(source: Source, modality: Modality, indices: Sequence[int]) -> Iterator[Raw]:
    for index in indices:
        try:
            fields = source.read(index).fields
        except UnreadableSample:  # told of when all are read
            continue
        yield raw_of(fields, modality, where=source.name)


def decode_sample(sample: Sample, modality: Modality) -> Example:
    """What a sample's field holds for a modality. Raises UnreadableSample where it can't be decoded, InvalidOption for
    a sample without such a field. A modality whose examples may fail later has `of_sample`, which tells them whose they
    are."""
    raw, of_sample = raw_of(sample.fields, modality, where=sample.place), getattr(modality, "of_sample", None)
    try:
        example = modality.decode(raw)
        return example if of_sample is None else of_sample(example, key=sample.key, place=sample.place)
    except SoftlabError:
        raise
    except Exception as error:  # damaged data make decoders raise nearly any class
        raise unreadable(error, key=sample.key, place=sample.place) from error


def read_fully(sample: Sample, modality: Modality) -> None:
    """Raises as `decode_sample`, also for what a decoded example would only tell when it is used. A modality whose
    examples are complete has no `check`."""
    check = getattr(modality, "check", None)
    example = decode_sample(sample, modality)
    if check is not None:
        check(example)


def raw_of(fields: Mapping[str, Raw], modality: Modality, *, where: str) -> Raw:
    """What a modality reads of a sample: one field; one that reads several together has `pick`. Raises InvalidOption
    where there is none such."""
    pick = getattr(modality, "pick", None)
    if pick is None:
        return fields[choose_field(modality, tuple(fields), where=where)]
    picked: Raw = pick(fields, where=where)
    return picked


def choose_field(modality: Modality, names: Sequence[str], *, where: str) -> str:
    """The field of a sample that a modality reads: the only one, or of several the one that it names. Raises
    InvalidOption where there is none such."""
    if len(names) == 1:
        return names[0]
    if modality.field not in names:
        raise InvalidOption(
            f"{where}: has the fields {', '.join(names)}, and the modality {modality.name} reads the field "
            f"{modality.field!r}. Name its column as `source.fields.{modality.field}`."
        )
    return modality.field


def _exposed(module: Any, name: str) -> Modality:
    modality: Modality | None = getattr(module, "MODALITY", None)
    if modality is None:
        where = getattr(module, "__file__", None)
        raise InvalidOption(
            f"modality {name!r}: {Path(where).name if where else name} exposes no MODALITY. Set it to an object with "
            f"what softlab.modalities.modality.Modality lists."
        )
    return modality
