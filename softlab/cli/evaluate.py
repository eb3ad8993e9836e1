"""`softlab evaluate`: measure a model on a source, and against a store where one is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from softlab.cli.flags import recipe_command
from softlab.cli.metric_columns import metrics_among
from softlab.cli.opening import open_with_bar
from softlab.cli.tables import format_bytes, format_share, print_facts, print_table
from softlab.evaluation.cost import ModelCost, describe_model
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics.per_class import ClassFigures
from softlab.evaluation.one_model import EvaluateOptions, evaluate_on, first_image, open_inputs
from softlab.models.build import ModelOptions, build_model
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.views.finishing import Finishing


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """A complete evaluation."""

    store: str | None = None
    """What a teacher said about the source, to measure agreement and divergences: a path, URL or NAME@VERSION."""

    json: bool = False
    """Print JSON."""

    model: ModelOptions
    source: SourceOptions
    input: Finishing = field(default_factory=Finishing)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)


@recipe_command(EvaluateRecipe, main_section="evaluate")
def evaluate(recipe: EvaluateRecipe) -> None:
    """Measure a model on a source: accuracy, calibration, cost, and with --store how near the teacher it is."""
    module, options = build_model(recipe.model), recipe.evaluate
    inputs = open_inputs(
        open_with_bar(recipe.source),
        store=None if recipe.store is None else open_store(recipe.store, cache=recipe.cache),
        finishing=recipe.input,
        options=options,
    )
    evaluation = evaluate_on(inputs, module, options)
    cost = describe_model(
        module, first_image(inputs, options), batch_size=options.batch_size, autocast=options.autocast
    )
    if recipe.json:
        # Not by Python's json, whose NaN other programs can't read.
        print(msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(evaluation) | {"cost": cost})).decode())
        return
    print_facts(_how_good(evaluation) | _how_costly(cost))
    if evaluation.classes is not None:
        _print_classes(evaluation.classes)


def _how_good(evaluation: Evaluation) -> dict[str, str]:
    values = evaluation.values
    known = {metric.label: metric.unit.text(values[metric.name]) for metric in metrics_among(values)}
    return {"rows": f"{evaluation.rows:,}"} | known


def _how_costly(cost: ModelCost) -> dict[str, str]:
    times = [f"{each.milliseconds:.3g} ms for {each.batch_size:,}" for each in cost.latencies]
    return {
        "parameters": f"{cost.num_parameters:,}",
        "multiply-adds a sample": f"{cost.multiply_adds:,}",
        "weights file": format_bytes(cost.weights_bytes),
        "forward pass": f"{', '.join(times)} ({cost.machine})",
    }


def _print_classes(classes: Sequence[ClassFigures]) -> None:
    rows = [
        [
            figures.name,
            f"{figures.samples:,}",
            f"{figures.correct:,}",
            format_share(figures.recall),
            format_share(figures.precision),
        ]
        for figures in classes
    ]
    print()
    print_table(["class", "samples", "correct", "recall", "precision"], rows, title="Class by class")
