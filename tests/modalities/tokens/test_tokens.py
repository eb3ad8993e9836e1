import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softlab
from softlab.errors import InvalidOption, OddSource, StoreMismatch, UnreadableSample
from softlab.manifest import InputRecord, TokensRecord
from softlab.modalities.modality import (
    InputOptions,
    Modality,
    decode_sample,
    decoding_for,
    fitted_input,
    options_by_name,
    settle_input,
)
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.modalities.tokens.tokenizer import CausalTokenizer, tokenizer_for
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract
from tests.modalities.tokens.llamas import CHAT, DOCUMENTS, FORGETFUL, TEMPLATE, byte_tokenizer, save_tokenizer

TRAINED = TokensInput(tokenizer="train:120", trained=train_tokenizer(DOCUMENTS, vocab_size=120))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


class TestTokens(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return [*DOCUMENTS[:5], "häßlich".encode()]

    @pytest.fixture
    def inputs(self, folder: Path) -> Sequence[InputOptions]:
        return [
            TRAINED,
            replace(TRAINED, max_length=4, truncation="left"),
            TokensInput(tokenizer=str(folder)),
            TokensInput(tokenizer=str(folder), add_special_tokens=False, max_length=5),
        ]


def collate(options: TokensInput, *raws: Any) -> Any:
    modality = decoding_for(MODALITY, (options,))
    return modality.collate([modality.decode(raw) for raw in raws], options)


def words(options: TokensInput, ids: Any) -> list[str]:
    tokenizer = tokenizer_for(options)
    assert isinstance(tokenizer, CausalTokenizer)
    rust = tokenizer.text.rust
    return [rust.decode([number], skip_special_tokens=False) for number in ids.tolist()]


def learnt(options: TokensInput, collated: Any, sample: int = 0) -> str:
    """The text of what the rows of a sample are to tell."""
    counts_B = collated.units.rows_B.tolist()
    first = sum(counts_B[:sample])
    return "".join(words(options, collated.units.targets_R[first : first + counts_B[sample]]))


def test_a_document_is_read_with_what_its_tokenizer_adds_and_every_token_but_the_first_is_learnt(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder))

    collated = collate(options, DOCUMENTS[3], DOCUMENTS[0])

    named, units = collated.inputs.named, collated.units
    lengths = named["attention_mask"].sum(dim=1).tolist()
    assert words(options, named["input_ids"][0][: lengths[0]])[0] == "<s>"
    assert learnt(options, collated) == DOCUMENTS[3]
    assert learnt(options, collated, 1) == DOCUMENTS[0]
    assert units.totals_B.tolist() == lengths
    assert units.rows_B.tolist() == [length - 1 for length in lengths]
    assert units.numbers_R.tolist() == [*range(lengths[0] - 1), *range(lengths[1] - 1)]
    assert collated.cut_off == 0


def test_a_row_tells_the_token_behind_its_own(folder: Path) -> None:
    collated = collate(TokensInput(tokenizer=str(folder)), *DOCUMENTS)

    ids = collated.inputs.named["input_ids"].flatten()
    assert ids[collated.units.keys_R + 1].equal(collated.units.targets_R)


def test_without_special_tokens_a_document_is_its_own_tokens(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder), add_special_tokens=False)

    collated = collate(options, DOCUMENTS[3])

    assert "".join(words(options, collated.inputs.named["input_ids"][0])) == DOCUMENTS[3]


def test_a_token_behind_the_document_is_learnt() -> None:
    collated = collate(TRAINED, "Mr. Bennet")

    assert words(TRAINED, collated.units.targets_R)[-1] == "[SEP]"


def test_a_document_that_is_longer_loses_its_end_and_keeps_the_numbers_of_its_tokens(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder))
    whole, short = collate(options, DOCUMENTS[0]), collate(replace(options, max_length=7), DOCUMENTS[0])

    assert short.inputs.named["input_ids"][0].equal(whole.inputs.named["input_ids"][0, :7])
    assert short.units.numbers_R.tolist() == [0, 1, 2, 3, 4, 5]
    assert short.units.totals_B.equal(whole.units.totals_B)
    assert short.cut_off == 1
    assert short.tokens == TokensRecord(read=7, cut_off=whole.tokens.read - 7)


def test_where_the_beginning_is_cut_off_what_stands_in_front_stays_and_tells_nothing(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder))
    whole = collate(options, DOCUMENTS[0])
    total = whole.tokens.read

    short = collate(replace(options, max_length=7, truncation="left"), DOCUMENTS[0])

    ids_L = whole.inputs.named["input_ids"][0]
    assert short.inputs.named["input_ids"][0].tolist() == [0, *ids_L[-6:].tolist()]
    assert short.units.numbers_R.tolist() == [total - 6, total - 5, total - 4, total - 3, total - 2]
    assert short.units.targets_R.equal(ids_L[-5:])


def test_of_a_prompt_nothing_is_learnt(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder), prompt_field="question", field="answer")

    collated = collate(options, {"question": "Who is it? ", "answer": "Mr. Bennet"})

    assert "".join(words(options, collated.inputs.named["input_ids"][0])) == "<s>Who is it? Mr. Bennet"
    assert learnt(options, collated) == "Mr. Bennet"
    both = collate(replace(options, loss_on="all"), {"question": "Who is it? ", "answer": "Mr. Bennet"})
    assert learnt(options, both) == "Who is it? Mr. Bennet"


def test_of_a_chat_all_is_learnt_or_the_turns_of_the_assistant(folder: Path) -> None:
    options = TokensInput(tokenizer=str(folder), messages_field="chat")
    written = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in CHAT)

    everything = collate(replace(options, max_length=256), {"chat": json.dumps(CHAT)})
    answers = collate(replace(options, max_length=256, loss_on="completion"), {"chat": json.dumps(CHAT)})

    assert "".join(words(options, everything.inputs.named["input_ids"][0])) == written
    assert learnt(options, everything) == written.removeprefix("<|im_start|>")
    assert learnt(options, answers) == "".join(f"{turn['content']}<|im_end|>\n" for turn in CHAT[1::2])


def test_turns_are_read_from_lists_as_from_json(tmp_path: Path, folder: Path) -> None:
    table = pa.table({"chat": [CHAT], "text": [json.dumps(CHAT)]})
    pq.write_table(table, tmp_path / "chats.parquet")
    sources = [
        softlab.open_source(
            softlab.SourceOptions(path=str(tmp_path / "chats.parquet"), fields={"messages": column}), modality="tokens"
        )
        for column in ("chat", "text")
    ]
    modality = decoding_for(MODALITY, (TokensInput(tokenizer=str(folder), messages_field="messages"),))

    listed, told = (decode_sample(source.read(0), modality) for source in sources)

    assert listed == told
    assert json.loads(listed["messages"]) == CHAT


def source_of(tmp_path: Path, columns: dict[str, list[Any]]) -> Any:
    pq.write_table(pa.table(columns), tmp_path / "samples.parquet")
    fields = {name: name for name in columns}
    return softlab.open_source(
        softlab.SourceOptions(path=str(tmp_path / "samples.parquet"), fields=fields), modality="tokens"
    )


@pytest.mark.parametrize(
    ("chat", "told"),
    [
        (CHAT[:1], r"none of its 1 turns is the assistant's, so that no token is learnt"),
        ([], r"no list of turns, or an empty one"),
        ([{"content": "Hello"}], r"turn 1 of its messages has no role"),
        ("Hello", r"its messages are no JSON"),
    ],
)
def test_what_is_no_chat_is_refused_with_its_key(tmp_path: Path, folder: Path, chat: Any, told: str) -> None:
    source = source_of(tmp_path, {"chat": [chat if isinstance(chat, str) else json.dumps(chat)]})
    options = TokensInput(tokenizer=str(folder), messages_field="chat", loss_on="completion")

    with pytest.raises(UnreadableSample, match=rf"sample '0' can't be read: .*{told}"):
        decode_sample(source.read(0), decoding_for(MODALITY, (options,)))


def test_an_empty_document_is_refused_with_its_key(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"text": [" \n"]})

    with pytest.raises(UnreadableSample, match=r"sample '0' can't be read: its text is empty"):
        decode_sample(source.read(0), MODALITY)


def test_a_single_token_has_no_row_and_that_is_told(tmp_path: Path, folder: Path) -> None:
    source = source_of(tmp_path, {"text": ["a", *DOCUMENTS]})
    options = TokensInput(tokenizer=str(folder), add_special_tokens=False, max_length=256)

    with pytest.warns(OddSource, match=r"1 of 9 samples that were looked at have no token to learn, so no row"):
        settled = settle_input(options, source)

    collated = collate(settled, "a", DOCUMENTS[3])
    assert collated.units.rows_B.tolist()[0] == 0
    assert learnt(settled, collated, 1)


def test_what_is_cut_off_is_told_once(tmp_path: Path, folder: Path) -> None:
    source = source_of(tmp_path, {"text": DOCUMENTS})

    with pytest.warns(OddSource, match=r"of 8 samples that were .* are longer than 9 tokens, and lose their end"):
        settled = settle_input(TokensInput(tokenizer=str(folder), max_length=9), source)
    settle_input(settled, source)


def test_a_template_that_forgets_earlier_answers_is_refused_for_completions(tmp_path: Path) -> None:
    options = TokensInput(tokenizer=str(save_tokenizer(tmp_path, template=FORGETFUL)), messages_field="chat")

    assert len(collate(options, {"chat": json.dumps(CHAT)}))
    with pytest.raises(InvalidOption, match=r"writes turn 2, or what is before it, in another way once more follows"):
        collate(replace(options, loss_on="completion"), {"chat": json.dumps(CHAT)})


def test_turns_that_a_template_refuses_are_told(tmp_path: Path) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    options = TokensInput(tokenizer=str(save_tokenizer(tmp_path, template=template)), messages_field="chat")

    with pytest.raises(InvalidOption, match=r"the turns user, assistant, user, assistant: roles must alternate"):
        collate(options, {"chat": json.dumps(CHAT)})


def test_a_template_that_writes_the_days_date_wants_to_be_told_one(tmp_path: Path) -> None:
    template = "{{ strftime_now('%d %b %Y') }}: " + TEMPLATE
    options = TokensInput(tokenizer=str(save_tokenizer(tmp_path, template=template)), messages_field="chat")

    with pytest.raises(InvalidOption, match=r"as in `input.template_date = 26 Jul 2024`"):
        collate(options, {"chat": json.dumps(CHAT[:1])})

    dated = replace(options, template_date="1 May 2025")
    ids = collate(dated, {"chat": json.dumps(CHAT[:1])}).inputs.named["input_ids"][0]
    assert "".join(words(dated, ids)) == "1 May 2025: <|im_start|>user\nWhat is a truth?<|im_end|>\n"


def test_a_tokenizer_without_a_template_writes_no_chats(tmp_path: Path) -> None:
    options = TokensInput(tokenizer=str(save_tokenizer(tmp_path, template=None)), messages_field="chat")

    with pytest.raises(InvalidOption, match=r"writes no chats \(.*chat_template is not set"):
        collate(options, {"chat": json.dumps(CHAT)})
    with pytest.raises(InvalidOption, match=r"train:120: has no chat template"):
        collate(replace(TRAINED, messages_field="chat"), {"chat": json.dumps(CHAT)})


def settled_on(folder: Path, **options: Any) -> TokensInput:
    modality = decoding_for(MODALITY, (TokensInput(**options),))
    return modality.settle_input(TokensInput(tokenizer=str(folder), **options), [])[0]  # type: ignore[attr-defined, no-any-return]


def record_of(options: TokensInput) -> InputRecord:
    return InputRecord(
        field=options.messages_field or options.field or "text", modality="tokens", options=options_by_name(options)
    )


def test_a_template_that_has_changed_is_refused(tmp_path: Path) -> None:
    """On resuming a dump, and of a student."""
    before = settled_on(save_tokenizer(tmp_path / "one"), messages_field="chat")
    after = settled_on(save_tokenizer(tmp_path / "two", template=TEMPLATE.replace("\n", " ")), messages_field="chat")
    assert before.identity == after.identity

    with pytest.raises(StoreMismatch, match=r"its chat template has changed"):
        MODALITY.as_settled(TokensInput(tokenizer=after.tokenizer, messages_field="chat"), record_of(before))
    with pytest.raises(StoreMismatch, match=r"input.template_identity = .*: the teacher's is .*read other tokens"):
        decoding_for(MODALITY, (after,), [record_of(before)])
    assert decoding_for(MODALITY, (before,), [record_of(before)])


def test_a_tokenizer_with_one_token_more_is_refused(tmp_path: Path, folder: Path) -> None:
    before = settled_on(folder)
    after = settled_on(save_tokenizer(tmp_path, rust=byte_tokenizer(more=("<|tool|>",))))

    with pytest.raises(StoreMismatch, match=r"has changed"):
        MODALITY.as_settled(TokensInput(tokenizer=after.tokenizer), record_of(before))
    with pytest.raises(StoreMismatch, match=r"A student has the teacher's tokenizer; softlab translates no rows"):
        decoding_for(MODALITY, (after,), [record_of(before)])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"add_special_tokens": False}, r"input.add_special_tokens = False: the teacher's is True"),
        ({"prompt_field": "question"}, r"input.prompt_field = question: the teacher's is "),
        ({"field": "other"}, r"input.field = other: the teacher has read the field 'text'"),
        ({"truncation": "left", "max_length": 32}, r"input.truncation = left at 32 tokens: the teacher's is right"),
    ],
)
def test_a_student_that_reads_other_tokens_is_refused(folder: Path, change: dict[str, Any], told: str) -> None:
    teachers = settled_on(folder)

    with pytest.raises(StoreMismatch, match=told):
        decoding_for(MODALITY, (replace(teachers, **change),), [record_of(teachers)])


def test_a_student_may_read_less_and_learn_other_tokens(folder: Path) -> None:
    teachers = settled_on(folder, messages_field="chat")

    students = replace(teachers, max_length=16, loss_on="completion")
    assert decoding_for(MODALITY, (students,), [record_of(teachers)])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_length": 1}, r"input.max_length = 1: .*Give 2 or more"),
        ({"loss_on": "completion"}, r"nothing tells where it begins"),
        ({"messages_field": "chat", "field": "text"}, r"input.messages_field and input.field"),
        ({"messages_field": "chat", "prompt_field": "text"}, r"input.messages_field and input.prompt_field"),
        ({"prompt_field": "text", "field": "text"}, r"is the document too"),
        ({"loss_on": "answers"}, r"Say all or completion"),
    ],
)
def test_options_that_contradict_each_other_are_refused(folder: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        collate(TokensInput(tokenizer=str(folder), **options), DOCUMENTS[0])


def test_the_tokenizer_is_that_of_the_model_and_tells_it_how_many_tokens_there_are(folder: Path) -> None:
    options = fitted_input(TokensInput(), model=f"hf:{folder}")

    assert options.tokenizer == str(folder)
    assert MODALITY.model_arguments(options) == {"vocab_size": 320, "pad_id": 0, "max_length": 64}


def test_a_tokenizer_is_trained_where_one_is_asked_for(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"text": DOCUMENTS})

    settled = settle_input(TokensInput(tokenizer="train:120", max_length=200), source)

    assert settled.trained == TRAINED.trained
    assert collate(settled, DOCUMENTS[0]).units.rows_B.tolist() == [
        len(collate(settled, DOCUMENTS[0]).inputs.named["input_ids"][0]) - 1
    ]
