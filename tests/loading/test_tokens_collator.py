"""Stored rows of tokens beside what a trainer's own collate function makes of a batch."""

# Shape letters: B samples in a batch, L tokens of the longest one.

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import softlab
from softlab.errors import StoreMismatch
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.loading.tokens_collator import TokensCollator
from tests.modalities.tokens.llamas import DOCUMENTS
from tests.student.language import VOCABULARY, Whole, dump_documents, open_documents, small_model, token_ids

TEACHER = Whole(small_model(seed=0, scale=3.0)).eval()


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> DatasetLabels:
    folder = tmp_path_factory.mktemp("documents")
    source, input = open_documents(folder)
    return align(dump_documents(folder / "store", source, input, teacher=TEACHER, coding="float32", k=VOCABULARY))


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    _, input = open_documents(tmp_path_factory.mktemp("ids"))
    return [token_ids(text, input) for text in DOCUMENTS]


def filled_up(
    items: list[Any], *, side: str = "right", length: int | None = None, targets: bool = False
) -> dict[str, Tensor]:
    length = length or max(len(item["input_ids"]) for item in items)
    ids_BL, mask_BL = torch.full((2, len(items), length), 0)
    for place, item in enumerate(items):
        own = torch.tensor(item["input_ids"][:length])
        where = slice(0, len(own)) if side == "right" else slice(length - len(own), length)
        ids_BL[place, where], mask_BL[place, where] = own, 1
    batch = {"input_ids": ids_BL, "attention_mask": mask_BL}
    return batch | ({"labels": ids_BL.where(mask_BL.bool(), -100)} if targets else {})


def in_one_sequence(items: list[Any]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[token for item in items for token in item["input_ids"]]])}


def items_of(ids: list[list[int]], which: tuple[int, ...] = (0, 3, 5)) -> list[dict[str, Any]]:
    return [{"input_ids": ids[index], "sample": str(index)} for index in which]


def expected_rows(tokens: list[int]) -> Tensor:
    """What the teacher says of the tokens of a text alone, as probabilities."""
    ids_BL = torch.tensor([tokens])
    with torch.no_grad():
        found: Tensor = TEACHER(ids_BL, torch.ones_like(ids_BL))[0, :-1].softmax(dim=1)
    return found


@pytest.mark.parametrize(
    "collate",
    [filled_up, lambda items: filled_up(items, side="left"), in_one_sequence],
    ids=["right", "left", "packed"],
)
def test_each_row_is_found_at_its_token_and_tells_the_next_one(
    labels: DatasetLabels, ids: list[list[int]], collate: Any
) -> None:
    batch = TokensCollator(labels, collate=collate)(items_of(ids))

    rows_R, soft = batch["soft_label_rows"], batch["soft_labels"]
    tokens = torch.cat([torch.tensor(ids[index][:-1]) for index in (0, 3, 5)])
    behind = torch.cat([torch.tensor(ids[index][1:]) for index in (0, 3, 5)])
    flat = batch["input_ids"].flatten()
    assert flat[rows_R].equal(tokens)
    assert batch["labels"].flatten()[rows_R + 1].equal(behind)
    assert (batch["labels"] != -100).sum() == len(rows_R) == len(soft)
    assert soft.counts_B.tolist() == [len(ids[index]) - 1 for index in (0, 3, 5)]
    found = torch.zeros(len(soft), VOCABULARY).scatter_(1, soft.class_ids_BK.long(), soft.logits_BK.softmax(dim=1))
    torch.testing.assert_close(found, torch.cat([expected_rows(ids[index]) for index in (0, 3, 5)]), atol=1e-5, rtol=0)


def test_what_the_trainer_cuts_off_or_leaves_out_is_not_learnt(labels: DatasetLabels, ids: list[list[int]]) -> None:
    def collate(items: list[Any]) -> dict[str, Tensor]:
        batch = filled_up(items, length=8, targets=True)
        batch["labels"][1, :4] = -100
        return batch

    batch = TokensCollator(labels, collate=collate)(items_of(ids, (0, 1)))

    assert batch["soft_label_rows"].tolist() == [*range(7), *range(8 + 3, 8 + 7)]
    assert batch["soft_labels"].counts_B.tolist() == [7, 4]
    assert (batch["labels"] != -100).sum(dim=1).tolist() == [7, 4]


def test_the_trainers_own_collate_function_sees_no_key(labels: DatasetLabels, ids: list[list[int]]) -> None:
    seen: list[Any] = []

    def collate(items: list[Any]) -> dict[str, Tensor]:
        seen.extend(items)
        return filled_up(items)

    items = [{"input_ids": item["input_ids"], "name": item["sample"]} for item in items_of(ids)]
    TokensCollator(labels, collate=collate, sample="name")(items)

    assert [list(item) for item in seen] == [["input_ids"]] * 3


def test_items_without_their_key_and_keys_that_are_not_there_are_refused(
    labels: DatasetLabels, ids: list[list[int]]
) -> None:
    collator = TokensCollator(labels, collate=filled_up)

    with pytest.raises(StoreMismatch, match=r"tells None as its 'sample' \(it has input_ids\).*remove_unused_columns"):
        collator([{"input_ids": ids[0]}])
    with pytest.raises(StoreMismatch, match="has no sample with the key 'other'"):
        collator([{"input_ids": ids[0], "sample": "other"}])


def test_tokens_that_the_teacher_has_not_read_are_refused(labels: DatasetLabels, ids: list[list[int]]) -> None:
    items = items_of(ids)
    items[1]["input_ids"] = [*ids[3][:4], 7, *ids[3][5:]]

    with pytest.raises(StoreMismatch, match=rf"other tokens of sample '3': number 4 is {ids[3][4]} there, and 7 here"):
        TokensCollator(labels, collate=filled_up)(items)


def test_a_batch_of_other_tokens_is_refused(labels: DatasetLabels, ids: list[list[int]]) -> None:
    def shuffled(items: list[Any]) -> dict[str, Tensor]:
        batch = filled_up(items)
        return batch | {"input_ids": batch["input_ids"].flip(dims=(1,))}

    with pytest.raises(
        StoreMismatch, match=r"doesn't hold them filled up on the right, nor .* so that no row can be found"
    ):
        TokensCollator(labels, collate=shuffled)(items_of(ids))


def test_a_store_of_pictures_has_no_rows_of_tokens(tmp_path: Path) -> None:
    from tests.loading.labelled import dump_rows
    from tests.teacher.dumping import Pictures

    pictures = Pictures(count=6, class_names=None)

    with pytest.raises(StoreMismatch, match="holds no rows of tokens"):
        softlab.TokensCollator(align(dump_rows(tmp_path / "store", pictures), pictures.keys), collate=filled_up)
