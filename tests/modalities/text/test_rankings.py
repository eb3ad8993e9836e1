"""Scores of candidates: training from the store is training beside the cross-encoder, list by list."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import softlab
from softlab.labels.losses import KlLoss
from softlab.loading.aligned import beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import decode_sample, decoding_for, settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.models.build import ModelOptions, build_model
from softlab.sources.source import Source
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.modalities.text.berts import save_bert
from tests.modalities.text.queries import CANDIDATES, FIELDS, write_queries
from tests.student.flat_options import learner_of, train_options

STEPS = ShuffledBatches(num_samples=len(CANDIDATES), batch_size=4, epochs=4, seed=3)
TEMPERATURE = 2.0


def teacher_of(bert: Path) -> nn.Module:
    return build_model(ModelOptions(model=f"hf:{bert}", arguments={"task": "ranking"}))


def student_of(input: TextInput) -> nn.Module:
    torch.manual_seed(1)
    options = ModelOptions(model="softlab:text_lstm", arguments={"width": 16, "num_classes": 8, "dropout": 0.0})
    return build_model(options, told=MODALITY.model_arguments(input))


def with_the_teacher_in_the_loop(bert: Path, source: Source, pairs: TextInput, input: TextInput) -> list[float]:
    """The loss of each step: plain torch code, no store; one list after the other, so that nothing is filled up."""
    teacher, student = teacher_of(bert).eval(), student_of(input)
    modality = decoding_for(MODALITY, (pairs, input))
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(STEPS))
    losses = []
    for rows in STEPS:
        divergences = []
        for index in rows.source_B.tolist():
            example, count = decode_sample(source.read(index), modality), len(CANDIDATES[index])
            with torch.no_grad():
                theirs_N = teacher(**modality.collate([example], pairs).inputs.named)[0, :count] / TEMPERATURE
            own_N = student(**modality.collate([example], input).inputs.named)[0, :count] / TEMPERATURE
            log_p_N = theirs_N.log_softmax(dim=0)
            divergences.append((log_p_N.exp() * (log_p_N - own_N.log_softmax(dim=0))).sum())
        loss = TEMPERATURE**2 * torch.stack(divergences).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_each_step_has_the_listwise_loss_of_training_with_the_cross_encoder(tmp_path: Path) -> None:
    bert = save_bert(tmp_path / "bert", names=None, num_labels=1)
    source = softlab.open_source(
        softlab.SourceOptions(path=str(write_queries(tmp_path / "queries.parquet")), fields=FIELDS), modality="text"
    )
    own: dict[str, Any] = {"field": "query", "candidate_fields": ("candidates",)}
    pairs = settle_input(TextInput(tokenizer=str(bert), pair_candidates=True, **own), source)
    input = settle_input(TextInput(tokenizer="train:120", **own), source)
    teacher = softlab.Teacher(module=teacher_of(bert), name="bert", arguments={}, input=pairs)
    options = softlab.DumpOptions(
        output=("scores:classes",), valid=True, coding="float32", batch_size=5, device=softlab.DeviceOptions(name="cpu")
    )
    softlab.dump_teacher(teacher, source, tmp_path / "store", options)
    objective = Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=TEMPERATURE))
    settings = train_options(
        epochs=4, batch_size=4, seed=3, device="cpu", track=(), warmup_epochs=0.0, learning_rate=1e-2
    )
    learner = learner_of(student_of(input), objective, settings, num_steps=len(STEPS), steps_per_epoch=3)
    aligned = beside_store(source, softlab.open_store(tmp_path / "store"), (input,))
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))

    losses = [learner.step(batch, step=step).item() for step, batch in enumerate(loader.load(STEPS))]

    assert losses == pytest.approx(with_the_teacher_in_the_loop(bert, source, pairs, input), abs=1e-5)
    assert losses[-1] < losses[0]
