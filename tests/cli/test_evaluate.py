"""`softlab evaluate` from the outside: what it tells of a model beside its accuracy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.sources.options import SourceOptions
from tests.cli.program import DATA, INPUT, TEST, Answer, Softlab, assert_refused, write_rows

Evaluate = Callable[..., Answer]


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """An untrained student: it never says some of the classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(ModelOptions(model="softlab:grey_mlp"))


@pytest.fixture
def evaluate(module: nn.Module, tmp_path: Path, softlab: Softlab) -> Evaluate:
    """Runs the command on the student and 100 test images, unless other options are given."""
    weights = tmp_path / "weights.safetensors"
    save_file(module.state_dict(), weights)

    def run(*more: object) -> Answer:
        model = ("--model", "softlab:grey_mlp", "--weights", weights, *INPUT)
        return softlab("evaluate", *model, *TEST, "--device", "cpu", "--batch-size", "32", *more)

    return run


def facts_of(answer: Answer) -> dict[str, str]:
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.split("\n\n")[0].splitlines()
    return {name: value.strip() for name, value in (line.split("  ", 1) for line in lines)}


def json_of(answer: Answer) -> dict[str, Any]:
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out, parse_constant=refuse_constant)
    return found


def refuse_constant(name: str) -> None:
    """NaN and Infinity, which Python reads and others don't."""
    raise AssertionError(f"{name} is not JSON")


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


# How good.


def test_json_is_what_the_library_measures(module: nn.Module, evaluate: Evaluate) -> None:
    found = json_of(evaluate("--json"))

    expected = evaluate_model(
        module,
        open_source(SourceOptions(path=TEST[1], limit=100)),
        input=ImageInput(mean=(0.286,), std=(0.353,)),
        options=EvaluateOptions(batch_size=32),
        device=DeviceOptions(name="cpu"),
    )
    assert (found["rows"], found["values"]) == (100, expected.values)
    assert expected.values.keys() == {"accuracy", "top5_accuracy", "class_f1", "matthews", "calibration_error"}
    assert "classes" not in found


def test_without_a_store_nothing_is_said_of_a_teacher(evaluate: Evaluate) -> None:
    assert list(facts_of(evaluate())) == [
        *("rows", "accuracy", "top-5 accuracy", "mean F1 of the classes", "Matthews correlation", "calibration error"),
        *("parameters", "multiply-adds a sample", "weights file", "forward pass"),
    ]


def test_with_a_store_the_table_has_the_divergences_of_the_json(stores: Path, evaluate: Evaluate) -> None:
    store = ("--store", stores / "test.zarr")

    facts, values = facts_of(evaluate(*store)), json_of(evaluate(*store, "--json"))["values"]

    assert facts["calibration error"] == share(values["calibration_error"])
    assert facts["the teacher's accuracy"] == share(values["teacher_accuracy"])
    assert facts["agreement with the teacher"] == share(values["teacher_agreement"])
    assert facts["KL to the teacher, other classes as one"] == f"{values['teacher_bucket_kl']:.4f} nats"
    shannon = values["teacher_bucket_jensen_shannon"]
    assert facts["Jensen-Shannon to the teacher, other classes as one"] == f"{shannon:.4f} nats"
    assert 0 < shannon < values["teacher_bucket_kl"]


def test_a_model_that_gives_no_numbers_has_no_figures(
    tmp_path: Path, module: nn.Module, stores: Path, evaluate: Evaluate
) -> None:
    weights = {name: torch.full_like(tensor, torch.nan) for name, tensor in module.state_dict().items()}
    save_file(weights, tmp_path / "nan.safetensors")

    answer = evaluate("--weights", tmp_path / "nan.safetensors", "--store", stores / "test.zarr", "--json")

    assert_refused(answer, "the model's outputs are NaN or infinite for 100 of 100 rows")


# Class by class.


def test_classes_are_shown_by_name_with_their_own_figures(evaluate: Evaluate) -> None:
    answer, found = evaluate("--per-class"), json_of(evaluate("--per-class", "--json"))

    rows = [line for line in answer.out.split("Class by class")[1].splitlines() if line.strip()]
    names = open_source(SourceOptions(path=TEST[1], limit=100)).class_names
    assert [figures["name"] for figures in found["classes"]] == list(names or ())
    for row, figures in zip(rows[1:], found["classes"], strict=True):
        samples, predicted, correct = figures["samples"], figures["predicted"], figures["correct"]
        assert figures["recall"] == correct / samples
        assert figures["precision"] == (correct / predicted if predicted else None)
        assert row.startswith(figures["name"])
        assert row.removeprefix(figures["name"]).split() == [
            *(str(samples), str(correct)),
            *(share(figures["recall"]), share(figures["precision"])),
        ]
    assert sum(figures["correct"] for figures in found["classes"]) == round(100 * found["values"]["accuracy"]) > 0
    assert sum(figures["samples"] for figures in found["classes"]) == 100


def test_a_class_without_samples_has_a_dash(tmp_path: Path, evaluate: Evaluate) -> None:
    table = pq.read_table(next((DATA / "test").glob("*.parquet"))).slice(0, 100)
    source = write_rows(tmp_path / "some", table.filter(np.array(table["label"]) != 3))

    answer = evaluate("--source", source, "--limit", len(table) - 10, "--per-class")

    row = next(line for line in answer.out.splitlines() if line.startswith("Dress"))
    assert row.split()[:4] == ["Dress", "0", "0", "-"]


def test_classes_are_left_out_unless_they_are_asked_for(evaluate: Evaluate) -> None:
    assert "Class by class" not in evaluate().out


# What it costs.


def test_the_cost_is_that_of_the_model(module: nn.Module, evaluate: Evaluate) -> None:
    facts, cost = facts_of(evaluate()), json_of(evaluate("--json"))["cost"]

    counter = FlopCounterMode(display=False)
    with counter:
        module.eval()(torch.zeros(1, 1, 28, 28))
    assert cost["num_parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert cost["multiply_adds"] == counter.get_total_flops() // 2 > 0
    assert facts["parameters"] == f"{cost['num_parameters']:,}"
    assert facts["multiply-adds a sample"] == f"{cost['multiply_adds']:,}"


def test_the_weights_have_the_size_of_the_file_that_was_read(tmp_path: Path, evaluate: Evaluate) -> None:
    cost = json_of(evaluate("--json"))["cost"]

    assert cost["weights_bytes"] == (tmp_path / "weights.safetensors").stat().st_size


def test_one_image_and_one_batch_are_timed(evaluate: Evaluate) -> None:
    facts, cost = facts_of(evaluate()), json_of(evaluate("--json"))["cost"]

    assert [latency["batch_size"] for latency in cost["latencies"]] == [1, 32]
    assert all(latency["milliseconds"] > 0 for latency in cost["latencies"])
    assert " ms for 1, " in facts["forward pass"]
    assert facts["forward pass"].endswith(f" ms for 32 ({cost['machine']})")


def test_an_empty_batch_is_refused(evaluate: Evaluate) -> None:
    assert_refused(
        evaluate("--batch-size", "0"),
        "evaluate.batch_size = 0: expected 1 or more. Change `evaluate.batch_size` (--batch-size).",
    )
