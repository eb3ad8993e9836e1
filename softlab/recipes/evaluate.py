"""A complete evaluation of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from softlab.errors import InvalidOption
from softlab.evaluation.cost import ModelCost, describe_model
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.one_model import EvaluateOptions, evaluate_on, first_input, open_inputs
from softlab.loading.options import CheckOptions
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.modality import fitted_input, model_arguments
from softlab.models.about import AboutWeights
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, choose_output, open_samples
from softlab.recipes.published_input import input_of
from softlab.recipes.students import TeacherModel
from softlab.recipes.weights_input import (
    about_weights,
    class_names_of,
    input_of_weights,
    note_of_unknown,
    seen_in_training,
)
from softlab.sources.known_classes import with_known_classes
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """A complete evaluation."""

    flags: ClassVar[dict[str, str]] = {
        "model.model": "--model",
        "model.weights": "--weights",
        "source.path": "--source",
        "source.limit": "--limit",
        "store": "--store",
        "output": "--output",
        "input.size": "--size",
        "input.channels": "--channels",
        "input.mean": "--mean",
        "input.std": "--std",
        "evaluate.batch_size": "--batch-size",
        "evaluate.per_class": "--per-class",
        "check.subset": "--subset",
        "device.name": "--device",
        "device.autocast": "--autocast",
        "device.workers": "--workers",
        "json": "--json",
    }
    """Of the command line, by key; all else is set in a recipe or with `--set`."""

    store: str | None = None
    """A teacher's output for the source, to measure agreement and divergences: a path, URL or NAME@VERSION."""

    output: str | None = None
    """Which output of the store the model is measured against.

    Without it the first one over classes. One of kind values is what the model itself gives, such as an embedding."""

    full: Path | None = None
    """A folder for the teacher's whole output for the source, which the model is measured against.

    [teacher] is run once, and what is there is used again. All divergences are then over all classes, and exact; of a
    store that keeps some of them they are lower bounds."""

    json: bool = False
    """Print JSON."""

    model: ModelOptions
    source: SourceOptions

    teacher: TeacherModel | None = None
    """Whose own output `full` asks for."""

    input: ImageInput = field(default_factory=ImageInput)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    check: CheckOptions = field(default_factory=CheckOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        if self.full is not None and self.store is not None:
            raise InvalidOption("`full` measures against the teacher itself. Leave `store` out, or `full`.")
        if self.full is not None and (self.teacher is None or not self.teacher.has_weights):
            raise InvalidOption("`full` needs the teacher itself. Give `teacher.model` and `teacher.weights`.")

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `source.limit=100`. Raises
        InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    def run(self, *, on_scan: OnScan | None = None) -> tuple[Evaluation, ModelCost]:
        """How good the model is, and what it costs. Raises as `evaluate_model`."""
        options, about = self.evaluate, about_weights(self.model)
        input = self._input(about)
        module = build_model(self.model, told=model_arguments(input))
        seen = () if about is None else seen_in_training(about, input)
        stored = None if self.store is None else open_store(self.store, cache=self.cache)
        gives_values = stored is not None and self.output in stored.feature_names
        if stored is not None and not gives_values:
            stored = choose_output(stored, self.output)
        source = open_samples(
            self.source,
            modality=input.modality,
            inputs=(input,),
            seen=seen if stored is None else stored.manifest.seen,
            on_scan=on_scan,
        )
        source = with_known_classes(source, class_names_of(self.model, about), whose="the model's weights")
        store = stored if self.full is None else self._full_store(source, self.full)
        inputs = open_inputs(
            source,
            store=store,
            input=input,
            device=self.device,
            check=self.check,
            seen=seen,
            values_output=self.output if gives_values else None,
        )
        evaluation = evaluate_on(inputs, module, options, self.device)
        cost = describe_model(
            module,
            first_input(inputs, channels_last=self.device.channels_last),
            batch_size=options.batch_size,
            autocast=self.device.autocast,
        )
        return evaluation, cost

    def _full_store(self, source: Source, out: Path) -> Store:
        from softlab.recipes.full_store import full_store  # a dump's code, which other evaluations don't need

        assert self.teacher is not None, "checked when it was built"
        return full_store(self.teacher, source, out, input=self.input, device=self.device, cache=self.cache)

    def _input(self, about: AboutWeights | None) -> ImageInput:
        """As the weights say, or else the recipe, or else as the model was published."""
        if about is not None:
            recorded: ImageInput = input_of_weights(about, self.input)
            return recorded
        used: ImageInput = fitted_input(input_of(self.model, self.input), model=self.model.model)
        note_of_unknown(self.model, used)
        return used
