"""Stored rows of tokens learnt by two processes: the same weights as by one, also where weights are sharded."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from softlab.integrations.token_loss import LOSS, TokenRows, giving_loss
from softlab.labels.losses import KlLoss
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.loading.tokens_collator import TokensCollator
from softlab.modalities.tokens.shift import tokens_behind
from softlab.models.causal_reader import CausalReader
from tests.integrations.test_token_trainer import TEACHER, Documents, make_trainer
from tests.loading.test_tokens_collator import filled_up
from tests.modalities.tokens.llamas import DOCUMENTS
from tests.ranks import started, wait_for_end
from tests.student.language import VOCABULARY, dump_documents, open_documents, small_llama, token_ids

pytestmark = [pytest.mark.process, pytest.mark.slow]

Stored = tuple[DatasetLabels, list[list[int]]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("documents")
    source, input = open_documents(folder)
    store = dump_documents(folder / "store", source, input, teacher=TEACHER, coding="float32", k=VOCABULARY)
    return align(store), [token_ids(text, input) for text in DOCUMENTS]


def train(out: Path, stored: Stored, *, batch_size: int) -> None:
    """A step on all documents, two batches a process."""
    model = small_llama()
    trainer = make_trainer(
        out / "run", *stored, model, per_device_train_batch_size=batch_size, gradient_accumulation_steps=2
    )
    trainer.train()
    if trainer.is_world_process_zero():
        torch.save(model.state_dict(), out / "weights.pt")


def loss_of(model: Any, stored: Stored, which: list[int]) -> Any:
    labels, ids = stored
    batch = TokensCollator(labels, collate=filled_up)([Documents(ids)[index] for index in which])
    rows_R = batch["soft_label_rows"]
    learnt = TokenRows(labels=batch["soft_labels"], rows_R=rows_R, targets_R=tokens_behind(batch["input_ids"], rows_R))
    reader = CausalReader(model, name="small", num_classes=VOCABULARY, head_dtype="auto")
    with giving_loss(model, reader, lambda logits: learnt.loss(logits, alpha=0.7, options=KlLoss(temperature=1.0))):
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[LOSS]


def compare_sharded(stored: Stored) -> None:
    """The gradients of a model whose weights are shared out, its output layer with the whole of it, and of a copy."""
    which = [0, 1] if dist.get_rank() == 0 else [2, 3]
    whole, sharded = small_llama(), small_llama()
    loss_of(whole, stored, which).backward()
    mesh = init_device_mesh("cpu", (2,))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)

    loss_of(sharded, stored, which).backward()

    for found, expected in zip(sharded.parameters(), whole.parameters(), strict=True):
        dist.all_reduce(expected.grad)
        torch.testing.assert_close(found.grad.full_tensor(), expected.grad / 2)


def learn_in_both_ways(out: Path, stored: Stored) -> None:
    train(out, stored, batch_size=2)
    compare_sharded(stored)
    dist.destroy_process_group()


def test_two_processes_learn_what_one_does_and_sharded_weights_have_the_same_gradients(
    tmp_path: Path, stored: Stored
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    train(tmp_path / "one", stored, batch_size=4)

    with started(2, learn_in_both_ways, tmp_path / "two", stored) as processes:
        assert wait_for_end(processes) == [0, 0]

    one, two = (torch.load(tmp_path / name / "weights.pt") for name in ("one", "two"))
    torch.testing.assert_close(two, one)
