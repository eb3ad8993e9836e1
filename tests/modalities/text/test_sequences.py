"""Classes of whole texts: what is stored is what the teacher gives, and training from it is training beside it."""

# Shape letters: B texts in a batch, C classes, D numbers a token.

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import softlab
from softlab.errors import StoreMismatch
from softlab.labels.losses import KlLoss
from softlab.loading.aligned import beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.models.build import ModelOptions, build_model
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.modalities.text.berts import save_bert
from tests.modalities.text.reviews import LABELS, TEXTS, write_reviews
from tests.student.flat_options import learner_of, train_options

CPU = softlab.DeviceOptions(name="cpu")
FEATURES = {"first": "bert.encoder.layer.1:cls", "mean": "bert.encoder.layer.1:mean"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return softlab.open_source(write_reviews(tmp_path_factory.mktemp("texts") / "reviews.parquet"), modality="text")


def module_of(bert: Path) -> nn.Module:
    return build_model(ModelOptions(model=f"hf:{bert}"))


def dumped(bert: Path, source: Any, out: Path, **options: Any) -> softlab.Store:
    teacher = softlab.Teacher(
        module=module_of(bert), name=f"hf:{bert}", arguments={}, input=TextInput(tokenizer=str(bert))
    )
    whole: dict[str, Any] = {"coding": "float32", "temperature": (1.0, 4.0), "device": CPU, "batch_size": 5} | options
    softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(**whole))
    return softlab.open_store(out)


def alone(bert: Path, text: str) -> dict[str, Tensor]:
    """What the teacher gives for a text that nothing is filled up beside."""
    input = TextInput(tokenizer=str(bert))
    inputs = MODALITY.collate([MODALITY.decode(text)], input).inputs
    with torch.no_grad():
        found = module_of(bert).eval()(**inputs.named, output_hidden_states=True)
    states_LD = found.hidden_states[-1][0]
    return {"logits": found.logits[0], "first": states_LD[0], "mean": states_LD.mean(dim=0)}


def test_what_is_stored_of_a_text_is_what_the_teacher_gives_for_it_alone(
    tmp_path: Path, bert: Path, source: Any
) -> None:
    store = dumped(bert, source, tmp_path / "store", feature=FEATURES, values_coding="float32")

    every = range(len(TEXTS))
    labels, means, firsts = store.read(every), store.read_features("mean", every), store.read_features("first", every)
    logits_BC = torch.zeros(len(TEXTS), 2).scatter_(1, labels.class_ids_BK.long(), labels.logits_BK)
    for index, text in enumerate(TEXTS):
        expected = alone(bert, text)
        found = {"logits": logits_BC[index], "first": firsts[index], "mean": means[index]}
        expected["logits"] = expected["logits"] - expected["logits"].max()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


STEPS = ShuffledBatches(num_samples=len(TEXTS), batch_size=12, epochs=4, seed=3)


def student_of(input: TextInput) -> nn.Module:
    torch.manual_seed(1)
    options = ModelOptions(model="softlab:text_lstm", arguments={"width": 16, "dropout": 0.0})
    return build_model(options, told=MODALITY.model_arguments(input))


def with_the_teacher_in_the_loop(bert: Path, input: TextInput) -> list[float]:
    """The loss of each step: plain torch code, no store; teacher and student have tokenizers of their own."""
    teacher, student = module_of(bert).eval(), student_of(input)
    teachers, targets_N, losses = TextInput(tokenizer=str(bert)), torch.tensor(LABELS), []
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(STEPS))
    for rows in STEPS:
        examples = [MODALITY.decode(TEXTS[index]) for index in rows.source_B]
        with torch.no_grad():
            teacher_BC = teacher(**MODALITY.collate(examples, teachers).inputs.named).logits
        student_BC = student(**MODALITY.collate(examples, input).inputs.named)
        divergence = functional.kl_div(
            (student_BC / 4).log_softmax(dim=1), (teacher_BC / 4).softmax(dim=1), reduction="batchmean"
        )
        loss = 0.9 * 4**2 * divergence + 0.1 * functional.cross_entropy(student_BC, targets_N[rows.source_B])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_with_all_classes_in_float32_each_step_has_the_loss_of_training_with_the_teacher(
    tmp_path: Path, bert: Path, source: Any
) -> None:
    input = settle_input(TextInput(tokenizer="train:120"), source)
    expected = with_the_teacher_in_the_loop(bert, input)
    store = dumped(bert, source, tmp_path / "store")
    options = train_options(
        epochs=4, batch_size=12, seed=3, device="cpu", track=(), warmup_epochs=0.0, learning_rate=1e-2
    )
    objective = Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=4.0))
    learner = learner_of(student_of(input), objective, options, num_steps=len(STEPS), steps_per_epoch=3)
    aligned = beside_store(source, store, (input,))
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))

    losses = [learner.step(batch, step=step).item() for step, batch in enumerate(loader.load(STEPS))]

    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] < losses[0]


def test_a_student_with_the_teachers_embeddings_is_refused_another_tokenizer(
    tmp_path: Path, bert: Path, source: Any
) -> None:
    store = dumped(bert, source, tmp_path / "store")
    input = settle_input(TextInput(tokenizer="train:120", same_tokenizer=True), source)

    with pytest.raises(StoreMismatch, match=r"input.same_tokenizer: this student's tokenizer \(train:120"):
        softlab.train_students({"small": student_of(input)}, source, [store], input=input)
    beside_store(source, store, (settle_input(TextInput(tokenizer=str(bert), same_tokenizer=True), source),))


def test_a_store_tells_a_text_that_has_changed(tmp_path: Path, bert: Path, source: Any) -> None:
    store = dumped(bert, source, tmp_path / "store")
    texts = [*TEXTS[:-1], "no film is better"]
    other = softlab.open_source(write_reviews(tmp_path / "reviews.parquet", texts=texts), modality="text")
    input = replace(TextInput(tokenizer=str(bert)), max_length=24)

    with pytest.raises(StoreMismatch, match="sample '35'"):
        softlab.train_students({"small": module_of(bert)}, other, [store], input=input)


def test_a_student_of_a_teacher_of_pairs_may_see_one_text_alone(tmp_path: Path, bert: Path) -> None:
    columns = {"question": TEXTS[:12], "reply": TEXTS[12:24], "label": LABELS[:12]}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    fields = {"question": "question", "answer": "reply"}
    pairs = softlab.open_source(
        softlab.SourceOptions(path=str(tmp_path / "pairs.parquet"), fields=fields), modality="text"
    )
    both = TextInput(tokenizer=str(bert), field="question", pair_field="answer")
    teacher = softlab.Teacher(module=module_of(bert), name="bert", arguments={}, input=both)
    summary = softlab.dump_teacher(teacher, pairs, tmp_path / "store", softlab.DumpOptions(device=CPU))
    store = softlab.open_store(tmp_path / "store")
    question = settle_input(TextInput(tokenizer="train:120", field="question"), pairs)

    (result,) = softlab.train_students(
        {"small": student_of(question)}, pairs, [store], train_options(epochs=1, device="cpu", track=()), input=question
    )

    (used,) = summary.manifest.inputs
    assert (used.field, used.options["pair_field"]) == ("question", "answer")
    assert result.error is None
    measured = softlab.evaluate_model(module_of(bert), pairs, store=store, input=both, device=CPU)
    assert measured.values["teacher_agreement"] == 1.0


def test_an_encoder_gives_embeddings_of_texts_and_no_classes(tmp_path: Path, bert: Path, source: Any) -> None:
    encoder = build_model(ModelOptions(model=f"hf:{bert}", arguments={"task": "embedding"}))
    teacher = softlab.Teacher(module=encoder, name="bert", arguments={}, input=TextInput(tokenizer=str(bert)))
    output = ("pooler_output:values", "sentence:values=layer:encoder.layer.1:mean")
    options = softlab.DumpOptions(output=output, values_coding="float32", device=CPU, batch_size=7)

    softlab.dump_teacher(teacher, source, tmp_path / "store", options)

    store = softlab.open_store(tmp_path / "store")
    assert not store.has_labels
    assert store.read_features("pooler_output", [0]).shape == (1, 16)
    expected = alone(bert, TEXTS[3])["mean"]
    torch.testing.assert_close(store.read_features("sentence", [3])[0], expected, atol=1e-5, rtol=1e-5)
