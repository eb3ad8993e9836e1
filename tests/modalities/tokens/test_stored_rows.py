"""Rows of tokens in a store, and which of them belong to a student that reads less, or learns fewer tokens."""

# Shape letters: B samples in a batch, L tokens of the longest, R rows, C tokens of the vocabulary.

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

import softlab
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.modality import decoding_for
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.modalities.tokens.models import tokens_transformer
from tests.modalities.tokens.llamas import CHAT, DOCUMENTS, save_tokenizer

CPU = torch.device("cpu")
CHATS = [CHAT, CHAT[:2], CHAT[2:], [{"role": "system", "content": "Be brief."}, *CHAT]]


class Dense(nn.Module):
    """A teacher whose logits are all there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = tokens_transformer(vocab_size=320, max_length=256, width=16, num_layers=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits_BLC: Tensor = self.model(input_ids, attention_mask)["logits"].whole()
        return logits_BLC


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return Dense().eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def source_of(path: Path, **columns: list[Any]) -> Any:
    pq.write_table(pa.table(columns), path)
    options = softlab.SourceOptions(path=str(path), fields={name: name for name in columns})
    return softlab.open_source(options, modality="tokens")


def settled(options: TokensInput) -> TokensInput:
    """Without a note on what is cut off."""
    found, _ = decoding_for(MODALITY, (options,)).settle_input(options, [])  # type: ignore[attr-defined]
    return found  # type: ignore[no-any-return]


def dumped(teacher: nn.Module, source: Any, out: Path, *, input: TokensInput, **options: Any) -> softlab.Store:
    made = softlab.Teacher(module=teacher, name="dense", arguments={}, input=input)
    whole: dict[str, Any] = {
        "coding": "float32",
        "k": 320,
        "device": softlab.DeviceOptions(name="cpu"),
        "batch_size": 3,
    } | options
    softlab.dump_teacher(made, source, out, softlab.DumpOptions(**whole))
    return softlab.open_store(out)


def told_logits(teacher: nn.Module, raw: Any, options: TokensInput) -> dict[int, tuple[Tensor, int]]:
    """By number of a token what the teacher tells of the next one, float32 [C], and which it is."""
    modality = decoding_for(MODALITY, (options,))
    collated = modality.collate([modality.decode(raw)], options)
    units = collated.units
    assert units is not None
    assert units.numbers_R is not None
    assert units.targets_R is not None
    with torch.no_grad():
        logits_LC = teacher(**collated.inputs.named)[0]
    pairs = zip(units.keys_R.tolist(), units.targets_R.tolist(), strict=True)
    return {
        number: (logits_LC[key], target) for number, (key, target) in zip(units.numbers_R.tolist(), pairs, strict=True)
    }


def dense(labels: Any) -> Tensor:
    empty = torch.zeros(len(labels), labels.num_classes)
    return empty.scatter_(1, labels.class_ids_BK.long(), labels.logits_BK + labels.max_logit_B[:, None])


def batch_of(source: Any, store: Any, *inputs: TokensInput) -> Any:
    aligned = beside_store(source, store, inputs) if store is not None else Aligned(source=source, inputs=inputs)
    loader = BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=0))
    (batch,) = loader.load(in_sequence(0, len(source), batch_size=len(source)))
    return batch


@pytest.mark.parametrize(("teachers", "students"), [(64, 12), (12, 64), (12, 12)])
def test_a_student_that_reads_less_or_more_has_the_rows_of_the_tokens_that_both_have_read(
    tmp_path: Path, teacher: nn.Module, tokenizer: str, teachers: int, students: int
) -> None:
    theirs = settled(TokensInput(tokenizer=tokenizer, max_length=teachers))
    ours = replace(theirs, max_length=students)
    source = source_of(tmp_path / "documents.parquet", text=DOCUMENTS)
    store = dumped(teacher, source, tmp_path / "store", input=theirs)

    batch = batch_of(source, store, theirs, ours).for_input(1)

    expected = [
        told
        for text in DOCUMENTS
        for number, told in told_logits(teacher, text, theirs).items()
        if number in told_logits(teacher, text, ours)
    ]
    assert len(expected) >= len(DOCUMENTS) * 5
    assert batch.targets_B.tolist() == [target for _, target in expected]
    torch.testing.assert_close(dense(batch.labels), torch.stack([logits for logits, _ in expected]))


def test_of_a_chat_a_student_may_learn_the_answers_alone(tmp_path: Path, teacher: nn.Module, tokenizer: str) -> None:
    theirs = settled(TokensInput(tokenizer=tokenizer, messages_field="chat", max_length=200))
    ours = replace(theirs, loss_on="completion")
    source = source_of(tmp_path / "chats.parquet", chat=CHATS)
    store = dumped(teacher, source, tmp_path / "store", input=theirs)

    batch = batch_of(source, store, theirs, ours)

    own, every = batch.for_input(1), batch.for_input(0)
    expected = [told for chat in CHATS for told in told_logits(teacher, {"chat": json.dumps(chat)}, ours).values()]
    assert own.targets_B.tolist() == [target for _, target in expected]
    assert len(every.targets_B) > 2 * len(expected)
    torch.testing.assert_close(dense(own.labels), torch.stack([logits for logits, _ in expected]))


def test_a_store_of_answers_alone_holds_no_row_of_a_question(
    tmp_path: Path, teacher: nn.Module, tokenizer: str
) -> None:
    input = settled(TokensInput(tokenizer=tokenizer, messages_field="chat", loss_on="completion", max_length=200))
    source = source_of(tmp_path / "chats.parquet", chat=CHATS)
    store = dumped(teacher, source, tmp_path / "store", input=input)

    labels = store.read(range(len(CHATS)))

    expected = [told_logits(teacher, {"chat": json.dumps(chat)}, input) for chat in CHATS]
    assert labels.counts_B is not None
    assert labels.counts_B.tolist() == [len(each) for each in expected]
    units_R = store.read_units(range(len(CHATS)))
    assert units_R is not None
    assert units_R.tolist() == [number for each in expected for number in each]


def test_a_document_of_one_token_takes_no_row_in_a_store_or_a_batch(
    tmp_path: Path, teacher: nn.Module, tokenizer: str
) -> None:
    input = settled(TokensInput(tokenizer=tokenizer, add_special_tokens=False, max_length=64))
    texts = ["b", DOCUMENTS[3], "a", "c"]
    source = source_of(tmp_path / "documents.parquet", text=texts)
    store = dumped(teacher, source, tmp_path / "store", input=input, batch_size=1)

    labels, batch = store.read(range(4)), batch_of(source, store, input).for_input(0)

    expected = told_logits(teacher, DOCUMENTS[3], input)
    assert labels.counts_B is not None
    assert labels.counts_B.tolist() == batch.counts_B.tolist() == [0, len(expected), 0, 0]
    assert batch.targets_B.tolist() == [target for _, target in expected.values()]


def test_without_a_store_a_row_has_the_next_token_as_its_hard_target(tmp_path: Path, tokenizer: str) -> None:
    input = settled(TokensInput(tokenizer=tokenizer, max_length=20))
    source = source_of(tmp_path / "documents.parquet", text=DOCUMENTS)

    batch = batch_of(source, None, input)

    ids_BL, mask_BL = (batch.inputs[0].inputs.named[name] for name in ("input_ids", "attention_mask"))
    expected = [ids_L[1 : int(mask_L.sum())].tolist() for ids_L, mask_L in zip(ids_BL, mask_BL, strict=True)]
    assert batch.for_input(0).targets_B.tolist() == [target for each in expected for target in each]
