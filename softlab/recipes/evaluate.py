"""A complete evaluation of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from softlab.evaluation.cost import ModelCost, describe_model
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.one_model import EvaluateOptions, evaluate_on, first_input, open_inputs
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, choose_output
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """A complete evaluation."""

    main_section: ClassVar[str] = "evaluate"

    store: str | None = None
    """A teacher's output for the source, to measure agreement and divergences: a path, URL or NAME@VERSION."""

    output: str | None = None
    """Which output of the store is taken as soft labels, where it holds several; without it the first one."""

    json: bool = False
    """Print JSON."""

    model: ModelOptions
    source: SourceOptions
    input: ImageInput = field(default_factory=ImageInput)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `source.limit=100`. Raises
        InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set, main_section=cls.main_section)

    def run(self, *, on_scan: OnScan | None = None) -> tuple[Evaluation, ModelCost]:
        """How good the model is, and what it costs. Raises as `evaluate_model`."""
        module, options = build_model(self.model), self.evaluate
        store = None if self.store is None else choose_output(open_store(self.store, cache=self.cache), self.output)
        inputs = open_inputs(
            open_source(self.source, modality=self.input.modality, on_scan=on_scan),
            store=store,
            input=self.input,
            options=options,
        )
        evaluation = evaluate_on(inputs, module, options)
        cost = describe_model(
            module, first_input(inputs, options), batch_size=options.batch_size, autocast=options.autocast
        )
        return evaluation, cost
