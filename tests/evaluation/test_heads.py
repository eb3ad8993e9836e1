"""Metrics of models with several heads, and one of their outputs alone."""

from pathlib import Path

import pytest
import torch

from softlab.errors import ModelError
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics.of_head import in_order, metric_named
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.several_targets import with_one_target
from tests.student.heads.tasks import ALL, Headed, Tasks, dump_both
from tests.teacher.dumping import images_of


def test_a_metric_of_a_head_is_described_as_the_metric_is() -> None:
    metric, plain = metric_named("colour/teacher_kl"), metric_named("teacher_kl")

    assert metric is not None
    assert plain is not None
    assert (metric.label, metric.column) == (f"colour {plain.label}", f"colour {plain.column}")
    assert (metric.unit, metric.higher_is_better) == (plain.unit, plain.higher_is_better)


def test_what_is_no_metric_has_no_description() -> None:
    assert metric_named("colour/colour") is None
    assert metric_named("colour") is None


def test_metrics_are_shown_head_by_head_in_one_order() -> None:
    names = ["b/accuracy", "a/teacher_kl", "accuracy", "a/accuracy", None, "a/none"]

    assert [metric.name for metric in in_order(names)] == ["accuracy", "a/accuracy", "a/teacher_kl", "b/accuracy"]


def test_without_hard_targets_those_of_heads_count_no_more() -> None:
    evaluation = Evaluation(rows=3, values={"a/accuracy": 0.5, "a/teacher_agreement": 0.25})

    assert evaluation.without_targets().values == {"a/teacher_agreement": 0.25}


def test_one_output_of_a_model_is_measured_by_its_name(tmp_path: Path) -> None:
    store, module = dump_both(tmp_path / "both"), Headed()
    source = with_one_target(Tasks(), "species")

    evaluation = evaluate_model(
        module,
        source,
        store=store.with_labels("species"),
        input=ImageInput(),
        options=EvaluateOptions(head="species"),
    )

    predicted_N = module(images_of(Tasks(), ALL))["species"].argmax(1)
    right_N = predicted_N == torch.from_numpy(Tasks().targets["species"])
    assert evaluation.values["accuracy"] == pytest.approx(right_N.float().mean().item())
    assert "teacher_kl" in evaluation.values


def test_an_output_that_the_model_does_not_return_is_refused() -> None:
    source = with_one_target(Tasks(), "species")

    with pytest.raises(
        ModelError, match=r"returns no output 'specis' \(it returns: species, colour, vector\). Did you"
    ):
        evaluate_model(Headed(), source, input=ImageInput(), options=EvaluateOptions(head="specis"))
