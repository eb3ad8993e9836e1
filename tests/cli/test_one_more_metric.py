"""A metric is one file and a line in a list: one that is listed is in all that a run leaves and in all tables."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import NATS
from softlab.loading.batch import Batch
from tests.cli.program import INPUT, TEST, Softlab, train

VALID = ("--valid", TEST[1], "--set", "valid.limit=100")


class Entropy:
    """Of the model's own distribution over the classes."""

    name, label, column = "entropy", "entropy of the model", "entropy"
    unit, higher_is_better = NATS, False
    needs: frozenset[Need] = frozenset()

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        log_BC = outputs.logits_BC.log_softmax(dim=1)
        self._mean.add(-(log_BC.exp() * log_BC).sum(dim=1), rows=len(batch))

    def value(self) -> float | None:
        return self._mean.value()


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRIC_BY_NAME, Entropy.name, Entropy)


def test_it_is_in_all_files_of_a_run_and_can_choose_the_best_epoch(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    out = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", out, *VALID, "--epochs", 2, "--set", "run.best_by=entropy"))

    lines = [json.loads(line)["valid"]["values"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    (result,) = json.loads((out / "summary.json").read_text())
    best = min(values["entropy"] for values in lines)
    curves = EventAccumulator(str(out / "tensorboard"))
    curves.Reload()
    assert (answer.code, answer.err) == (0, "")
    assert (result["best_by"], result["best"]["values"]["entropy"]) == ("entropy", best)
    assert json.loads((out / "mlp/best.json").read_text())["valid"]["values"]["entropy"] == best
    assert [point.value for point in curves.Scalars("entropy/mlp")] == pytest.approx(
        [values["entropy"] for values in lines]
    )
    assert "entropy nats" in answer.out
    assert f"{result['last']['values']['entropy']:.4f}" in answer.out


def test_it_is_in_the_report(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    softlab(*train(stores / "train.zarr", tmp_path / "run", *VALID))

    answer = softlab("report", tmp_path / "run", "--out", tmp_path / "report", "--no-plots")

    (student,) = json.loads((tmp_path / "report/report.json").read_text())["students"]
    assert answer.code == 0
    assert "entropy nats" in answer.out
    assert f"{student['values']['entropy']['mean']:.4f}" in answer.out
    assert "entropy: entropy of the model" in answer.out


def test_it_is_what_evaluate_measures(softlab: Softlab) -> None:
    answer = softlab("evaluate", "--model", "softlab:grey_mlp", *INPUT, *TEST)

    assert answer.facts()["entropy of the model"].endswith(" nats")
