"""What makes an epoch of a student, or a trial of a search, the best."""

import math

from softlab.errors import InvalidOption, suggest
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME, measurable
from softlab.evaluation.metrics.needs import LACKING, what_is_known
from softlab.evaluation.metrics.of_head import metric_named, name_of, split_name
from softlab.loading.aligned import Aligned

AUTO = "auto"
AUTO_METRICS = (
    "perplexity",
    "accuracy",
    "mean_average_precision",
    "answer_f1",
    "ndcg_at_10",
    "teacher_kl",
    "teacher_bucket_kl",
    "teacher_sampled_kl",
    "teacher_agreement",
    "pair_recall_at_1",
    "teacher_overlap",
    "teacher_mse",
    "neighbour_accuracy",
)
"""What `auto` stands for: the first of them that can be measured. Agreement counts only where there is no KL, as it has
ties: with 100 samples it takes 101 values. Of models that give values overlap is first, which takes any width."""

OF_EQUAL_SHAPES = ("teacher_cosine", "teacher_mse")
"""Not measured for a model whose values have another shape than the stored ones."""


def check_best_by(name: str) -> None:
    """Raises InvalidOption unless it is `auto` or the name of a metric."""
    if name != AUTO and metric_named(name) is None:
        raise InvalidOption(
            f"run.best_by = {name}: no such metric. {suggest(split_name(name)[1], [AUTO, *METRIC_BY_NAME])} Change "
            f"`run.best_by`."
        )


def choose_metric(best_by: str, aligned: Aligned) -> str:
    """The name of the metric by which models are compared on a validation source, from an option that `check_best_by`
    has accepted. Raises InvalidOption for one that can't be measured there."""
    if aligned.heads:
        return _choose_of_heads(best_by, aligned)
    head, _ = split_name(best_by)
    if head is not None:
        raise InvalidOption(
            f"run.best_by = {best_by}: the students have no heads, each gives one output. Leave out `{head}/`."
        )
    can = [metric.name for metric in measurable(aligned)]
    wanted: tuple[str, ...] = AUTO_METRICS if best_by == AUTO else (best_by,)
    chosen = next((name for name in wanted if name in can), None)
    if chosen is None:
        of_classes = ("accuracy", "teacher_agreement")  # what KL needs, agreement does
        if best_by == AUTO:
            wanted = of_classes if aligned.values_output is None else ("teacher_mse", "neighbour_accuracy")
        missing = frozenset().union(*(METRIC_BY_NAME[name].needs for name in wanted)) - what_is_known(aligned)
        raise InvalidOption(
            f"run.best_by = {best_by}: {' and '.join(wanted)} can't be measured on {aligned.source.name}: "
            f"{'; '.join(LACKING[need] for need in sorted(missing))}. "
            f"Choose another `run.best_by` (here: {', '.join(can) or 'none'}), or give another `valid.path` or "
            f"`valid_store`."
        )
    return chosen


def _choose_of_heads(best_by: str, aligned: Aligned) -> str:
    """As HEAD/METRIC; `auto` is that of the first head that can be measured."""
    wanted, metric = split_name(best_by)
    heads, named = aligned.heads, ", ".join(aligned.heads)
    if best_by != AUTO and wanted not in heads:
        found = "names no head" if wanted is None else f"there is no head {wanted!r} (heads: {named})"
        raise InvalidOption(
            f"run.best_by = {best_by}: {found}, and each head is measured by itself. "
            f"{suggest(wanted, heads) if wanted else ''} Say `run.best_by = {next(iter(heads))}/{metric}`."
        )
    failed: InvalidOption | None = None
    for name in heads if wanted is None else (wanted,):
        try:
            return name_of(name, choose_metric(metric, heads[name]))
        except InvalidOption as error:
            failed = failed or InvalidOption(f"head {name}: {error}")
    assert failed is not None, "there are heads"
    raise failed


def score(evaluation: Evaluation | None, *, by: str) -> float:
    """How good a model is by one metric: higher is always better; -inf where that was not measured."""
    value = None if evaluation is None else evaluation.values.get(by)
    if value is None:
        return -math.inf
    metric = metric_named(by)
    assert metric is not None, "it was measured"
    return value if metric.higher_is_better else -value


def is_better(evaluation: Evaluation, *, than: Evaluation | None, by: str) -> bool:
    """Whether an epoch is the best so far; the first one always is."""
    return than is None or score(evaluation, by=by) > score(than, by=by)
