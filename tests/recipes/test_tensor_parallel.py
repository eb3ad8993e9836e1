"""A language model that several processes share, as one teacher, against the same one in a process of its own."""

import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from softlab.errors import InvalidOption, OddSource
from softlab.recipes.building import recipe_from
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.students import TeacherModel
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama
from tests.ranks import started, wait_for_end


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama and its texts."""
    root = tmp_path_factory.mktemp("made")
    save_llama(root / "llama")
    pq.write_table(pa.table({"text": DOCUMENTS}), root / "texts.parquet")
    return root


def recipe(made: Path, out: Path, *, size: int, **arguments: object) -> DumpRecipe:
    """Of four shards."""
    told: dict[str, Any] = {
        "out": str(out),
        "source": {"path": str(made / "texts.parquet"), "fields": {"text": "text"}},
        "teacher": {
            "model": f"hf:{made / 'llama'}",
            "arguments": {"task": "causal", **arguments},
            "input": {"modality": "tokens"},
        },
        "dump": {"k": 8, "coding": "float32", "shard_rows": 2, "batch_size": 2, "feature": {"last": "model.norm"}},
        "device": {"name": "cpu"},
    }
    told["dump"]["tensor_parallel"] = size
    return recipe_from(DumpRecipe, told, where="here")


def dump(made: Path, out: Path, size: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=OddSource)
        recipe(made, out, size=size).run()


def dump_and_be_refused(made: Path, out: Path) -> None:
    """The leader is, after it has seen what the teacher gives."""
    shared = recipe(made, out, size=2)
    try:
        replace(shared, dump=replace(shared.dump, k=1_000)).run()
    except InvalidOption:
        sys.exit(7)


@pytest.mark.process
@pytest.mark.slow
def test_where_a_leader_fails_its_followers_end_without_a_word(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with started(2, dump_and_be_refused, made, tmp_path / "store") as processes:
        for process in processes:
            process.join(120)
        codes = [process.exitcode for process in processes]

    assert codes == [7, 1]
    assert "Error" not in capfd.readouterr().err


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_groups_of_two_processes_give_what_one_gives(made: Path, tmp_path: Path, count: int) -> None:
    """Four processes are two teachers, which share the shards."""
    dump(made, tmp_path / "alone", 1)

    with started(count, dump, made, tmp_path / "shared", 2) as processes:
        assert wait_for_end(processes) == [0] * count

    alone, shared = (open_store(tmp_path / name, cache=CacheOptions(max_bytes=0)) for name in ("alone", "shared"))
    assert shared.manifest.teacher == alone.manifest.teacher
    assert len(shared.manifest.shards) == 4
    expected, found = (store.read(np.arange(len(DOCUMENTS))) for store in (alone, shared))
    torch.testing.assert_close(found.logits_BK, expected.logits_BK, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_tail_BT, expected.log_tail_BT, rtol=1e-5, atol=1e-5)
    assert (found.class_ids_BK == expected.class_ids_BK).float().mean() > 0.99  # two may be nearly as large


def test_one_process_cannot_be_a_group(made: Path, tmp_path: Path) -> None:
    told = "dump.tensor_parallel = 2: found 1 processes, expected a multiple of 2. Say `dump.devices = 2`"

    with pytest.raises(InvalidOption, match=f"^{re.escape(told)}"):
        dump(made, tmp_path / "store", 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"teacher": TeacherModel(model="softlab:grey_cnn")},
            "with softlab:grey_cnn: only models of `hf:` can be shared",
        ),
        ({"teacher": TeacherModel(model="hf:a", weights=Path("b.pt"))}, "with hf:a: only models of `hf:`"),
        ({"teacher": TeacherModel(model="hf:a", arguments={"lora": {}})}, "with hf:a: only models of `hf:`"),
        ({"plan": True}, "with plan: a plan is made by one process"),
    ],
)
def test_what_processes_cannot_share_is_refused(made: Path, tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    shared = recipe(made, tmp_path / "store", size=2)

    with pytest.raises(InvalidOption, match=f"^{re.escape(f'dump.tensor_parallel {told}')}"):
        replace(shared, **changes)
