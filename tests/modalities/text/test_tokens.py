"""Classes of words: what is stored is what the teacher gives, and training from it is training beside it."""

# Shape letters: B texts in a batch, L tokens of the longest, C classes, R rows of all words.

import re
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
from softlab.errors import InvalidOption, ModelError, OddLabels, OddSource, StoreMismatch
from softlab.labels.losses import KlLoss
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches, in_sequence
from softlab.modalities.modality import settle_input
from softlab.modalities.text import words
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.tokenizer import read_tokenizer, tokenizer_for
from softlab.models.build import ModelOptions, build_model
from softlab.models.class_names import published_class_names
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from softlab.student.run_folder import StudentResult
from softlab.student.tapped import TappedStudent
from tests.modalities.text.tagged import COUNTS, NAMES, PAIRS, SENTENCES, TAGS, numbers, open_tagged, save_tagger
from tests.student.flat_options import learner_of, train_options

CPU = softlab.DeviceOptions(name="cpu")
ALONE = train_options(epochs=1, device="cpu", track=(), alpha=1.0)
"""From the teacher's labels alone."""

STEPS = ShuffledBatches(num_samples=len(SENTENCES), batch_size=6, epochs=4, seed=3)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_tagged(tmp_path_factory.mktemp("sentences") / "tagged.parquet")


@pytest.fixture(scope="module")
def own_input(source: Any) -> TextInput:
    """Of a student with pieces of its own."""
    settled: TextInput = settle_input(TextInput(tokenizer="train:90", unit="word"), source)
    return settled


def module_of(tagger: Path) -> nn.Module:
    return build_model(ModelOptions(model=f"hf:{tagger}", arguments={"task": "tokens"}))


def input_of(tagger: Path, *, max_length: int | None = None) -> TextInput:
    """Settled: of what is cut off only `test_lost_words_are_told_once` tells."""
    input = TextInput(tokenizer=str(tagger), unit="word")
    return replace(input, identity=read_tokenizer(input).identity, max_length=max_length)


def student_of(input: TextInput, *, model: str = "softlab:text_lstm") -> nn.Module:
    torch.manual_seed(1)
    arguments: dict[str, object] = {"width": 16, "dropout": 0.0, "num_classes": len(NAMES), "per_token": True}
    return build_model(ModelOptions(model=model, arguments=arguments), told=MODALITY.model_arguments(input))


def dumped(tagger: Path, source: Any, out: Path, *, input: TextInput | None = None, **options: Any) -> softlab.Store:
    teacher = softlab.Teacher(
        module=module_of(tagger),
        name=f"hf:{tagger}",
        arguments={},
        input=input or input_of(tagger),
        class_names=NAMES,
    )
    whole: dict[str, Any] = {"coding": "float32", "temperature": (1.0, 4.0), "device": CPU, "batch_size": 5} | options
    softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(**whole))
    return softlab.open_store(out)


def alone(tagger: Path, words: list[str]) -> Tensor:
    """float32 [W, C], what the teacher gives at the first piece of each word of a sentence by itself: counted by hand,
    two letters a piece behind [CLS]."""
    with torch.no_grad():
        inputs = MODALITY.collate([MODALITY.decode(" ".join(words))], input_of(tagger)).inputs
        logits_LC = module_of(tagger).eval()(**inputs.named).logits[0]
    starts = [1 + sum((len(word) + 1) // 2 for word in words[:place]) for place in range(len(words))]
    found: Tensor = logits_LC[starts]
    return found


def dense(labels: Any) -> Tensor:
    empty = torch.zeros(len(labels), labels.num_classes)
    return empty.scatter_(1, labels.class_ids_BK.long(), labels.logits_BK + labels.max_logit_B[:, None])


def test_what_is_stored_of_a_word_is_what_the_teacher_gives_at_its_first_token(
    tmp_path: Path, tagger: Path, source: Any
) -> None:
    store = dumped(tagger, source, tmp_path / "store")

    labels = store.read(range(len(SENTENCES)))
    assert labels.counts_B is not None
    assert labels.counts_B.tolist() == COUNTS
    for (own, _), logits_RC in zip(PAIRS, torch.split(dense(labels), COUNTS), strict=True):
        torch.testing.assert_close(logits_RC, alone(tagger, own), atol=1e-4, rtol=1e-5)
    units_R = store.read_units([1, 0])
    assert units_R is not None
    assert units_R.tolist() == [*range(COUNTS[1]), *range(COUNTS[0])]


def with_the_teacher_in_the_loop(tagger: Path, input: TextInput) -> list[float]:
    """The loss of each step: plain torch code, no store; teacher and student have tokenizers of their own. The student
    finds its words by the offsets of the tokenizer, which is another way than softlab's."""
    student, losses = student_of(input), []
    teacher_NWC = [alone(tagger, each) for each, _ in PAIRS]
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(STEPS))
    for rows in STEPS:
        index_B = rows.source_B.tolist()
        examples = [MODALITY.decode(SENTENCES[index]) for index in index_B]
        logits_BLC = student(**MODALITY.collate(examples, input).inputs.named)
        student_R, teacher_R, targets_R = [], [], []
        for place, index in enumerate(index_B):
            offsets = tokenizer_for(input).encode(SENTENCES[index], None).offsets
            begin = 0
            for number, word in enumerate(PAIRS[index][0]):
                behind = begin + len(word)
                first = next(at for at, (one, two) in enumerate(offsets) if one < behind and two > begin)
                student_R.append(logits_BLC[place, first])
                teacher_R.append(teacher_NWC[index][number])
                targets_R.append(numbers(TAGS[index])[number])
                begin = behind + 1
        student_RC, teacher_RC = torch.stack(student_R), torch.stack(teacher_R)
        divergence = functional.kl_div(
            (student_RC / 4).log_softmax(dim=1), (teacher_RC / 4).softmax(dim=1), reduction="batchmean"
        )
        loss = 0.9 * 4**2 * divergence + 0.1 * functional.cross_entropy(student_RC, torch.tensor(targets_R))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_with_all_classes_in_float32_each_step_has_the_loss_of_training_with_the_teacher(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput
) -> None:
    expected = with_the_teacher_in_the_loop(tagger, own_input)
    store = dumped(tagger, source, tmp_path / "store")
    options = train_options(
        epochs=4, batch_size=6, seed=3, device="cpu", track=(), warmup_epochs=0.0, learning_rate=1e-2
    )
    objective = Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=4.0))
    learner = learner_of(student_of(own_input), objective, options, num_steps=len(STEPS), steps_per_epoch=3)
    aligned = beside_store(source, store, (own_input,))
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))

    losses = [learner.step(batch, step=step).item() for step, batch in enumerate(loader.load(STEPS))]

    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] < losses[0]


def loader_of(source: Any, store: softlab.Store | None, *inputs: TextInput) -> BatchLoader:
    aligned = beside_store(source, store, inputs) if store is not None else Aligned(source=source, inputs=inputs)
    return BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))


@pytest.mark.parametrize(("teachers", "students"), [(8, 24), (24, 6), (8, 6)])
def test_students_learn_from_the_words_that_both_have_read(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput, teachers: int, students: int
) -> None:
    store = dumped(tagger, source, tmp_path / "store", input=input_of(tagger, max_length=teachers))
    input = replace(own_input, max_length=students)
    student = student_of(input).eval()
    objective = Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=4.0))
    (batch,) = loader_of(source, store, replace(own_input, max_length=40), input).load(
        in_sequence(0, len(SENTENCES), batch_size=len(SENTENCES))
    )

    own = batch.for_input(1)
    logits_RC = TappedStudent(
        "small",
        student,
        {},
        device=torch.device("cpu"),
        autocast="none",
        compiled=False,
        example=None,
        seed=0,
        input_index=1,
    ).logits(own)
    losses, targets, num_words = [], [], 0
    for index, text in enumerate(SENTENCES):
        words_R = store.read_units([index])
        assert words_R is not None
        collated = MODALITY.collate([MODALITY.decode(text)], input)
        assert collated.units is not None
        assert collated.units.numbers_R is not None
        theirs = dict(zip(words_R.tolist(), dense(store.read([index])), strict=True))
        ours = dict(zip(collated.units.numbers_R.tolist(), collated.units.keys_R.tolist(), strict=True))
        given_LC = student(**collated.inputs.named)[0]
        num_words += len(theirs.keys() | ours.keys())
        for word in sorted(theirs.keys() & ours.keys()):
            teacher_C, student_C = theirs[word] / 4, given_LC[ours[word]] / 4
            losses.append((teacher_C.softmax(0) * (teacher_C.log_softmax(0) - student_C.log_softmax(0))).sum())
            targets.append(numbers(TAGS[index])[word])

    assert 0 < len(losses) < num_words
    assert isinstance(logits_RC, Tensor)
    assert objective(logits_RC, own).item() == pytest.approx(16 * torch.stack(losses).mean().item(), abs=1e-5)
    assert own.targets_B is not None
    assert own.targets_B.tolist() == targets


def test_students_of_one_run_are_the_same_as_alone(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput
) -> None:
    store, short = dumped(tagger, source, tmp_path / "store"), replace(own_input, max_length=7)
    options = train_options(epochs=2, batch_size=6, seed=3, device="cpu", track=(), alpha=0.5, temperature=4.0)
    valid = softlab.Validation(source=source, store=store)

    def trained(**inputs: TextInput) -> dict[str, StudentResult]:
        students = {name: softlab.Student(module=student_of(each), input=each) for name, each in inputs.items()}
        results = softlab.train_students(students, source, [store], options, valid=valid)
        return {each.name: each for each in results}

    together, alone = trained(long=own_input, short=short), trained(short=short)["short"]

    assert together["short"].last == alone.last
    assert together["short"].train_loss == alone.train_loss
    assert together["long"].last is not None
    assert {"accuracy", "entity_f1", "teacher_agreement", "teacher_kl"} <= together["long"].last.values.keys()


def test_the_small_transformer_learns_words_too(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput
) -> None:
    store, student = dumped(tagger, source, tmp_path / "store"), student_of(own_input, model="softlab:text_transformer")
    options = train_options(epochs=20, batch_size=6, device="cpu", track=(), alpha=0.0, learning_rate=1e-2)

    softlab.train_students({"small": student}, source, [store], options, input=own_input)

    found = softlab.evaluate_model(student, source, store=store, input=own_input, device=CPU)
    assert found.values["accuracy"] > 0.9


def test_a_tagger_is_measured_by_word_and_by_entity(tmp_path: Path, tagger: Path, source: Any) -> None:
    store = dumped(tagger, source, tmp_path / "store")

    found = softlab.evaluate_model(module_of(tagger), source, store=store, input=input_of(tagger), device=CPU)

    given = [alone(tagger, each).argmax(dim=1).tolist() for each, _ in PAIRS]
    right = [
        one == other
        for tags, own in zip(TAGS, given, strict=True)
        for one, other in zip(numbers(tags), own, strict=True)
    ]
    assert found.values["accuracy"] == pytest.approx(sum(right) / len(right))
    assert found.values["teacher_agreement"] == 1.0
    assert found.values["teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert 0 <= found.values["entity_f1"] < 1
    without_store = softlab.evaluate_model(module_of(tagger), source, input=input_of(tagger), device=CPU)
    assert without_store.values["entity_f1"] == found.values["entity_f1"]


def test_words_without_a_label_count_nothing(tmp_path: Path, tagger: Path) -> None:
    tags = [[tag if place else "" for place, tag in enumerate(each)] for each in TAGS]
    some = open_tagged(tmp_path / "some.parquet", tags=[None, *tags[1:]])

    found = softlab.evaluate_model(module_of(tagger), some, input=input_of(tagger), device=CPU)

    given = [alone(tagger, each).argmax(dim=1).tolist() for each, _ in PAIRS]
    right = [
        one == other
        for own_tags, own in zip(TAGS[1:], given[1:], strict=True)
        for one, other in list(zip(numbers(own_tags), own, strict=True))[1:]
    ]
    assert found.values["accuracy"] == pytest.approx(sum(right) / len(right))


def test_the_names_of_its_classes_are_the_configurations(tagger: Path) -> None:
    options = ModelOptions(model=f"hf:{tagger}", arguments={"task": "tokens"})

    assert published_class_names(options) == NAMES


def test_lost_words_are_told_once(source: Any, own_input: TextInput) -> None:
    unsettled = replace(own_input, identity="", max_length=6)

    with pytest.warns(
        OddSource, match=r"18 of 18 texts .* lose their end, \d+ of 111 words, which have no row\. Raise"
    ):
        settle_input(unsettled, source)


# What doesn't fit.


def test_labels_of_other_names_are_refused(tmp_path: Path, tagger: Path, own_input: TextInput) -> None:
    tags = [[tag.replace("PER", "HUM") for tag in each] for each in TAGS]
    names = tuple(name.replace("PER", "HUM") for name in NAMES)
    other = open_tagged(tmp_path / "other.parquet", tags=tags, class_names=names)
    store = dumped(tagger, open_tagged(tmp_path / "plain.parquet", tags=None), tmp_path / "store")

    with pytest.raises(StoreMismatch, match=r"'B-HUM', 'I-HUM' are none of the 5 classes"):
        dumped(tagger, other, tmp_path / "other")
    with pytest.raises(StoreMismatch, match=r"'B-HUM', 'I-HUM' are none of the 5 classes"):
        softlab.train_students({"small": student_of(own_input)}, other, [store], input=own_input)


def test_labels_in_another_order_are_aligned_by_name(tmp_path: Path, tagger: Path, source: Any) -> None:
    store = dumped(tagger, source, tmp_path / "store")
    other = open_tagged(tmp_path / "other.parquet", class_names=NAMES[::-1])
    expected = softlab.evaluate_model(module_of(tagger), source, store=store, input=input_of(tagger), device=CPU)

    with pytest.warns(OddLabels, match="classes aligned by name"):
        found = softlab.evaluate_model(module_of(tagger), other, store=store, input=input_of(tagger), device=CPU)

    assert found.values == expected.values


def test_another_number_of_tags_than_of_words_is_refused(tmp_path: Path, tagger: Path, own_input: TextInput) -> None:
    tags = [*TAGS[:-1], TAGS[-1][:-1]]
    source = open_tagged(tmp_path / "short.parquet", tags=tags)
    store = dumped(tagger, open_tagged(tmp_path / "plain.parquet", tags=None), tmp_path / "store")
    count = len(TAGS[-1])

    with pytest.raises(StoreMismatch, match=rf"sample '17': has {count - 1} labels for {count} units"):
        softlab.train_students({"small": student_of(own_input)}, source, [store], input=own_input)


def two_fields(path: Path) -> Any:
    columns = {"long": SENTENCES, "short": [text.split()[0] for text in SENTENCES]}
    pq.write_table(pa.table(columns), path)
    options = softlab.SourceOptions(path=str(path), fields={"long": "long", "short": "short"})
    return softlab.open_source(options, modality="text")


def test_words_of_another_field_are_refused(tmp_path: Path, tagger: Path, own_input: TextInput) -> None:
    source = two_fields(tmp_path / "two.parquet")
    store = dumped(tagger, source, tmp_path / "store", input=replace(input_of(tagger), field="long"))
    other = replace(own_input, field="short")

    with pytest.raises(StoreMismatch, match=r"a row for each word of the field 'long', and this student reads other"):
        softlab.train_students({"small": student_of(own_input)}, source, [store], input=other)


def test_fewer_words_than_are_stored_are_refused(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dumped(tagger, source, tmp_path / "store")
    monkeypatch.setattr(words, "WORD", re.compile(r"\w+"))
    untagged = open_tagged(tmp_path / "plain.parquet", tags=None)

    with pytest.raises(StoreMismatch, match=r"has units up to number \d there, and what the student reads"):
        softlab.train_students({"small": student_of(own_input)}, untagged, [store], ALONE, input=own_input)


def test_a_student_of_whole_texts_is_refused(tmp_path: Path, tagger: Path, source: Any, own_input: TextInput) -> None:
    untagged = open_tagged(tmp_path / "plain.parquet", tags=None)
    store, input = dumped(tagger, source, tmp_path / "store"), replace(own_input, unit="")
    arguments: dict[str, object] = {"width": 16, "num_classes": len(NAMES)}
    bag = build_model(ModelOptions(model="softlab:text_bag", arguments=arguments), told=MODALITY.model_arguments(input))

    with pytest.raises(StoreMismatch, match=r"gives 18 rows .* the store holds 111.* say `input.unit = word`"):
        softlab.train_students({"small": bag}, untagged, [store], ALONE, input=input)
    with pytest.raises(InvalidOption, match=r"has a label for each unit of a sample, and the student no row for each"):
        softlab.train_students({"small": bag}, source, [store], ALONE, input=input)


def test_classes_of_tokens_without_a_unit_are_refused(tmp_path: Path, tagger: Path, source: Any) -> None:
    with pytest.raises(ModelError, match=r"a row for each token, .* Say `input.unit = word`"):
        dumped(tagger, source, tmp_path / "store", input=TextInput(tokenizer=str(tagger)))


def test_a_slow_tokenizer_has_no_words(tmp_path: Path, tagger: Path, source: Any) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/vocab.txt").write_text("[PAD]\n[UNK]\nann\n")

    with pytest.raises(InvalidOption, match=r"has no tokenizer.json, as a fast tokenizer has. Convert it once"):
        dumped(tagger, source, tmp_path / "store", input=TextInput(tokenizer=str(tmp_path / "slow"), unit="word"))


def test_two_teachers_of_other_words_are_refused(tmp_path: Path, tagger: Path, source: Any) -> None:
    stores = [
        dumped(tagger, source, tmp_path / f"store{length}", input=input_of(tagger, max_length=length))
        for length in (8, 24)
    ]

    with pytest.raises(StoreMismatch, match="its samples have other units than those of"):
        softlab.train_students({"small": module_of(tagger)}, source, stores, input=input_of(tagger))


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"input.unit = line: is no unit of a text. Say word"):
        TextInput(unit="line")  # type: ignore[arg-type]


def test_two_teachers_of_the_same_words_teach_a_student_that_reads_fewer(
    tmp_path: Path, tagger: Path, source: Any, own_input: TextInput
) -> None:
    stores = [dumped(tagger, source, tmp_path / f"store{number}") for number in range(2)]
    options = train_options(
        epochs=2, batch_size=6, device="cpu", track=(), alpha=0.5, temperature=4.0, weigh="correctness"
    )
    input = replace(own_input, max_length=7)

    (one,) = softlab.train_students({"small": student_of(input)}, source, stores[:1], options, input=input)
    (two,) = softlab.train_students({"small": student_of(input)}, source, stores, options, input=input)

    assert two.train_loss == pytest.approx(one.train_loss, rel=1e-5)
