"""Answers in texts: what is stored is what the teacher gives, and students learn from it as from the teacher itself."""

# Shape letters: B texts in a batch, C classes: no answer, and the words of a text.

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import softlab
from softlab.errors import ModelError, OddSource, SourceError, StoreMismatch
from softlab.labels.losses import KlLoss
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import Text
from softlab.models.build import ModelOptions, build_model
from softlab.store.joined import join_outputs
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.modalities.text.questions import (
    ANSWERS,
    CONTEXTS,
    QUESTIONS,
    STARTS,
    WORDS,
    input_of,
    open_questions,
    save_reader,
    write_questions,
)
from tests.student.flat_options import learner_of, train_options

CPU = softlab.DeviceOptions(name="cpu")
MODALITY = Text(fields=("question", "context"))
STEPS = ShuffledBatches(num_samples=len(CONTEXTS), batch_size=10, epochs=2, seed=3)
RUN: dict[str, Any] = {"batch_size": 10, "seed": 3, "device": "cpu", "track": (), "warmup_epochs": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_questions(tmp_path_factory.mktemp("questions") / "questions.parquet")
    return open_questions(path, answer_column="answers")


def teacher_of(folder: Path, input: TextInput | None = None) -> softlab.Teacher:
    module = build_model(ModelOptions(model=f"hf:{folder}", arguments={"task": "answers"}))
    return softlab.Teacher(module=module, name=f"hf:{folder}", arguments={}, input=input or input_of(folder))


def dumped(folder: Path, source: Any, out: Path, *, input: TextInput | None = None, **options: Any) -> softlab.Store:
    whole: dict[str, Any] = {"coding": "float32", "temperature": (1.0, 2.0), "device": CPU, "batch_size": 7} | options
    softlab.dump_teacher(teacher_of(folder, input), source, out, softlab.DumpOptions(**whole))
    return softlab.open_store(out)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, folder: Path, source: Any) -> softlab.Store:
    """All classes, in float32."""
    return dumped(folder, source, tmp_path_factory.mktemp("dump") / "store")


@pytest.fixture(scope="module")
def input(source: Any) -> TextInput:
    found: TextInput = settle_input(input_of("train:60"), source)
    return found


def student_of(input: TextInput, name: str = "text_lstm", **arguments: object) -> nn.Module:
    torch.manual_seed(1)
    options = ModelOptions(model=f"softlab:{name}", arguments={"width": 16, "dropout": 0.0, **arguments})
    return build_model(options, told=MODALITY.model_arguments(input))


def example_of(index: int) -> dict[str, str]:
    return {"question": QUESTIONS[index], "context": CONTEXTS[index]}


def test_both_outputs_are_stored_over_the_words_that_a_text_has(folder: Path, store: softlab.Store) -> None:
    teacher = teacher_of(folder).module.eval()

    for name in ("start", "end"):
        labels = store.with_labels(name).read(range(4))
        for index in range(4):
            with torch.no_grad():
                expected_C = teacher(**MODALITY.collate([example_of(index)], input_of(folder)).inputs.named)[name][0]
            count = 1 + len(CONTEXTS[index].split())
            assert labels.valid_B is not None
            assert labels.valid_B[index] == count == int(expected_C.isfinite().sum())
            found_C = torch.empty(17).scatter_(0, labels.class_ids_BK[index].long(), labels.logits_BK[index])
            torch.testing.assert_close(found_C[:count], expected_C[:count] - expected_C.max(), atol=1e-4, rtol=1e-4)


def test_what_is_stored_without_further_options_is_both_outputs_and_twenty_logits_of_each(
    tmp_path: Path, folder: Path, source: Any
) -> None:
    wide = dumped(folder, source, tmp_path / "wide", input=input_of(folder, max_words=40))
    narrow = dumped(folder, source, tmp_path / "narrow")

    for found, k, classes in [(wide, 20, 41), (narrow, 17, 17)]:
        told = [
            (each.name, each.selection.k, each.label_space.num_classes, each.valid) for each in found.manifest.classes
        ]
        assert told == [("start", k, classes, True), ("end", k, classes, True)]


def with_the_teacher_in_the_loop(folder: Path, input: TextInput, *, alpha: float) -> list[float]:
    """The loss of each step: plain torch code over the words that each text has; no store."""
    teacher, student = teacher_of(folder).module.eval(), student_of(input)
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(STEPS))
    losses = []
    for rows in STEPS:
        indices = rows.source_B.tolist()
        examples = [example_of(index) for index in indices]
        with torch.no_grad():
            theirs = teacher(**MODALITY.collate(examples, input_of(folder)).inputs.named)
        ours = student(**MODALITY.collate(examples, input).inputs.named)
        parts = [
            alpha * _divergence(theirs[name][place], ours[name][place])
            + (1 - alpha) * functional.cross_entropy(ours[name][place], torch.tensor(WORDS[index]))
            for name in ("start", "end")
            for place, index in enumerate(indices)
        ]
        loss = torch.stack(parts).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _divergence(teacher_C: Tensor, student_C: Tensor) -> Tensor:
    has = teacher_C.isfinite()
    p, q = (each[has] / 2 for each in (teacher_C, student_C))
    return 2**2 * functional.kl_div(q.log_softmax(dim=0), p.softmax(dim=0), reduction="sum")


def from_the_store(source: Any, store: softlab.Store, input: TextInput, *, alpha: float) -> list[float]:
    options = train_options(epochs=2, learning_rate=1e-2, **RUN)
    objective = Objective(teachers=TeachersOptions(alpha=alpha), loss=KlLoss(temperature=2.0))
    learner = learner_of(student_of(input), objective, options, num_steps=len(STEPS), steps_per_epoch=4)
    aligned = beside_store(source, join_outputs(store, input.outputs), (input,))
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))
    return [learner.step(batch, step=step).item() for step, batch in enumerate(loader.load(STEPS))]


@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_with_all_classes_in_float32_each_step_has_the_loss_of_training_with_the_teacher(
    folder: Path, source: Any, store: softlab.Store, input: TextInput, alpha: float
) -> None:
    losses = from_the_store(source, store, input, alpha=alpha)

    assert losses == pytest.approx(with_the_teacher_in_the_loop(folder, input, alpha=alpha), abs=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["text_lstm", "text_transformer", "hf"])
def test_students_learn_both_outputs_and_are_measured_on_each(
    tmp_path: Path, folder: Path, source: Any, store: softlab.Store, input: TextInput, name: str
) -> None:
    own = settle_input(input_of(folder), source) if name == "hf" else input
    student = teacher_of(save_reader(tmp_path / "other", seed=5)).module if name == "hf" else student_of(own, name)
    before = softlab.evaluate_model(student, source, store=store, input=own, device=CPU)

    (result,) = softlab.train_students(
        {"small": student},
        source,
        [store],
        train_options(epochs=8, alpha=1.0, temperature=1.0, learning_rate=1e-2, **RUN),
        input=own,
    )

    assert result.error is None
    after = softlab.evaluate_model(student, source, store=store, input=own, device=CPU)
    assert after.values["teacher_kl"] < before.values["teacher_kl"] / 2
    assert after.outputs is not None
    assert after.outputs.keys() == {"start", "end"}
    each = [after.outputs[output]["teacher_kl"] for output in ("start", "end")]
    assert sum(each) / 2 == pytest.approx(after.values["teacher_kl"], abs=1e-6)
    assert after.rows == len(CONTEXTS)


def test_answers_alone_are_learnt_without_a_store(source: Any, input: TextInput) -> None:
    student = student_of(input, width=32)

    with pytest.warns(OddSource, match="also in"):
        (result,) = softlab.train_students(
            {"small": student},
            source,
            [],
            train_options(epochs=12, learning_rate=1e-2, **RUN),
            input=input,
            valid=softlab.Validation(source=source),
        )

    assert result.best_by == "answer_f1"
    assert result.last is not None
    assert result.last.values["answer_match"] > 0.9
    assert result.last.values["answer_match"] <= result.last.values["answer_f1"]
    assert result.last.values.keys() == {"answer_match", "answer_f1", "answer_position"}


def test_a_teacher_agrees_with_its_store(folder: Path, source: Any, store: softlab.Store) -> None:
    found = softlab.evaluate_model(
        teacher_of(folder).module, source, store=store, input=settle_input(input_of(folder), source), device=CPU
    )

    assert found.values["teacher_agreement"] == 1.0
    assert found.values["teacher_kl"] == pytest.approx(0.0, abs=1e-6)
    assert found.outputs is not None
    assert found.outputs["end"]["teacher_agreement"] == 1.0


@pytest.mark.filterwarnings("ignore:.*answers that were looked at")
def test_a_student_that_reads_less_than_the_teacher_learns_what_both_have_read(
    source: Any, store: softlab.Store
) -> None:
    input = settle_input(input_of("train:60"), source)
    short = replace(input, max_length=30)

    losses = from_the_store(source, store, short, alpha=0.5)

    assert all(0 < loss < 20 for loss in losses)
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("ignore:.*loses? their end")
def test_answers_that_are_cut_off_are_counted_and_are_no_hard_targets(source: Any, input: TextInput) -> None:
    short = replace(input, max_words=5)
    told = (
        r"20 of 40 answers that were looked at lie behind what students with this input read \(max_length = \d+, max_w"
    )
    loader = BatchLoader(
        Aligned(source=source, inputs=(short,)), device=torch.device("cpu"), options=LoaderOptions(workers=0)
    )
    (batch, *_) = loader.load(ShuffledBatches(num_samples=40, batch_size=40, epochs=1, seed=0))

    with pytest.warns(OddSource, match=told):
        (result,) = softlab.train_students(
            {"small": student_of(short)}, source, [], train_options(epochs=1, **RUN), input=short
        )

    assert result.error is None
    assert batch.targets_B is not None
    read = batch.read_by(0).targets_B
    assert read is not None
    assert read.tolist() == [target if target <= 5 else -1 for target in batch.targets_B.tolist()]
    assert batch.targets_B.view(-1, 2).tolist() == [[WORDS[index]] * 2 for index in batch.source_B]


# What can't be.


def test_an_answer_that_is_not_in_its_text_at_this_place_is_refused_by_the_key_of_the_sample(
    tmp_path: Path, input: TextInput
) -> None:
    path = write_questions(tmp_path / "questions.parquet", starts=[*STARTS[:7], STARTS[7] + 1, *STARTS[8:]])

    with pytest.raises(SourceError) as refused:
        softlab.train_students(
            {"small": student_of(input)},
            open_questions(path, answer_column="answers"),
            [],
            train_options(epochs=1, **RUN),
            input=input,
        )

    there = CONTEXTS[7][STARTS[7] + 1 :][: len(ANSWERS[7])]
    assert str(refused.value) == (
        f"parquet:questions.parquet: sample '07': its answer {ANSWERS[7]!r} isn't at character {STARTS[7] + 1} of the "
        f"text, where {there!r} stands. Correct its answer, or leave it out."
    )


def test_hard_targets_without_answers_are_refused(tmp_path: Path, store: softlab.Store, input: TextInput) -> None:
    source = open_questions(write_questions(tmp_path / "questions.parquet"))

    with pytest.raises(StoreMismatch, match=r"tells no answers to learn beside .*`source.answer_column`, or train"):
        softlab.train_students({"small": student_of(input)}, source, [store], train_options(**RUN), input=input)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_words": 9}, "`input.max_words = 9`, and the teacher's is 16: answers are stored by the words"),
        ({"field": "context", "pair_field": "question"}, "`input.pair_field = question`, and the teacher's is context"),
    ],
)
def test_a_student_that_seeks_among_other_words_is_refused(
    source: Any, store: softlab.Store, input: TextInput, options: dict[str, Any], message: str
) -> None:
    other = replace(input, **options)

    with pytest.raises(StoreMismatch, match=re.escape(message)):
        softlab.train_students({"small": student_of(other)}, source, [store], train_options(**RUN), input=other)


def test_a_model_without_beginnings_and_ends_is_refused(source: Any, input: TextInput) -> None:
    class Classifier(nn.Module):
        def forward(self, input_ids: Tensor, **others: Tensor) -> Tensor:
            return input_ids.float()[:, :3]

    with pytest.raises(ModelError, match=r"expected start and end, each \[40, classes\]\. Choose a model that gives"):
        softlab.evaluate_model(Classifier(), source, input=input, device=CPU)


def test_students_of_answers_and_of_classes_are_not_trained_together(source: Any, input: TextInput) -> None:
    plain = replace(input, max_words=0, pair_field="")
    students = {
        "reader": softlab.Student(module=student_of(input), input=input),
        "bag": softlab.Student(module=nn.Linear(1, 1), input=plain),
    }

    with pytest.raises(softlab.InvalidOption, match="reader and bag: one gives start and end, the other logits"):
        softlab.train_students(students, source, [], train_options(**RUN))


def test_a_field_that_no_sample_has_is_named(tmp_path: Path, folder: Path, source: Any) -> None:
    with pytest.raises(softlab.InvalidOption, match=r"has no field 'contexts' .*Did you mean context"):
        dumped(folder, source, tmp_path / "store", input=input_of(folder, pair_field="contexts"))


def test_a_slow_tokenizer_is_refused(tmp_path: Path, folder: Path, source: Any) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "vocab.txt").write_text("[PAD]\n")

    with pytest.raises(softlab.InvalidOption, match=r"has no tokenizer.json, as a fast tokenizer has"):
        dumped(folder, source, tmp_path / "store", input=input_of(tmp_path / "slow"))
