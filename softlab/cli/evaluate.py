"""`softlab evaluate`: measure a model on a source, and against a store where one is given."""

from collections.abc import Sequence

import msgspec

from softlab.amounts import format_bytes
from softlab.cli.flags import recipe_command
from softlab.cli.metric_columns import NO_VALUE, has_accuracy, metrics_among
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.tables import format_share, print_facts, print_table
from softlab.evaluation.cost import ModelCost
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.accuracy import Accuracy
from softlab.evaluation.metrics.per_class import ClassFigures
from softlab.recipes.evaluate import EvaluateRecipe


@recipe_command(EvaluateRecipe)
def evaluate(recipe: EvaluateRecipe) -> None:
    """Measure a model on a source: accuracy, calibration, cost, and with --store how near the teacher it is."""
    with run_bar() as bar:
        evaluation, cost = recipe.run(on_scan=scan_bar(bar))
    if recipe.json:
        # Not by Python's json, whose NaN other programs can't read.
        print(msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(evaluation) | {"cost": cost})).decode())
        return
    print_facts(_how_good(evaluation) | _how_costly(cost))
    if evaluation.classes is not None:
        _print_classes(evaluation.classes)


def _how_good(evaluation: Evaluation) -> dict[str, str]:
    values = evaluation.values
    shown = metrics_among({Accuracy.name, *values} if has_accuracy(values) else {*values})
    known = {each.label: each.unit.text(values[each.name]) if each.name in values else NO_VALUE for each in shown}
    each_output = {
        f"{METRIC_BY_NAME[metric].label}, {output}": METRIC_BY_NAME[metric].unit.text(value)
        for output, own in (evaluation.outputs or {}).items()
        for metric, value in own.items()
    }
    return {"rows": f"{evaluation.rows:,}"} | known | each_output


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
