from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import ModelError, StoreMismatch
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.measure import BATCH_SIZE, evaluate
from softlab.evaluation.one_model import open_inputs
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.options import CheckOptions
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store
from tests.evaluation.pictures import COUNT, PICTURES, STUDENT, TEACHER, make_store, measure
from tests.modalities.images.batches import images_in
from tests.teacher.dumping import NUM_CLASSES

assert COUNT > BATCH_SIZE, "more than one batch is measured"


def make_loader(store: Store) -> BatchLoader:
    return open_inputs(PICTURES, store=store, device=DeviceOptions(name="cpu"), check=CheckOptions())


def forward(batch: Batch) -> Tensor:
    logits_BC: Tensor = STUDENT(images_in(batch))
    return logits_BC


def test_what_neither_source_nor_store_can_tell_is_left_out() -> None:
    assert measure(source=replace(PICTURES, targets_N=None)) == Evaluation(rows=COUNT, values={})


def test_several_models_are_measured_in_one_pass_as_each_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)

    found = evaluate({"teacher": lambda batch: TEACHER(images_in(batch)), "student": forward}, make_loader(store))

    assert list(found) == ["teacher", "student"]
    assert found["student"] == measure(store)
    assert found["teacher"] != found["student"]


class NotANumber(nn.Module):
    def forward(self, images_BCHW: Tensor) -> Tensor:
        return torch.full((len(images_BCHW), NUM_CLASSES), torch.nan)


def test_a_model_that_gives_no_numbers_has_no_figures(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"NaN or infinite for {COUNT} of {COUNT} rows"):
        measure(make_store(tmp_path), module=NotANumber())


def test_a_model_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    loader = make_loader(make_store(tmp_path))

    with pytest.raises(StoreMismatch, match=f"Build the student with num_classes = {NUM_CLASSES}"):
        evaluate({"small": lambda batch: forward(batch)[:, :-1]}, loader)


def test_logits_that_are_computed_some_rows_at_a_time_are_measured_as_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make_loader(make_store(tmp_path, k=4))
    weight_CD = torch.randn(NUM_CLASSES, 72, generator=torch.Generator().manual_seed(1)) / 8
    monkeypatch.setattr("softlab.labels.lazy_logits.CHUNK_BYTES", 4 * NUM_CLASSES * 100)
    seen: list[int] = []

    def lazy(batch: Batch) -> LazyLogits:
        return LazyLogits(hidden=images_in(batch).flatten(start_dim=1), weight_CD=weight_CD)

    some = evaluate({"lm": lazy}, loader, watch=lambda logits_BC: seen.append(len(logits_BC)))["lm"]

    whole = evaluate({"lm": lambda batch: lazy(batch).whole()}, loader)["lm"]
    assert seen == [100, 100, 56, 44]
    assert some.rows == whole.rows == COUNT
    assert some.values == pytest.approx(whole.values)
