"""What the tests of the commands share: the program's answer, the demo's data as arguments, ways to spoil a store."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data/fashion_mnist"
INPUT = ("--mean", "0.286", "--std", "0.353")
TEACHER = ("--teacher", "softlab:grey_resnet", "--weights", str(DATA / "teacher.safetensors"), *INPUT)
TRAIN = ("--source", str(DATA / "train"), "--set", "source.limit=200")
TEST = ("--source", str(DATA / "test"), "--limit", "100")
SMALL = ("--k", "4", "--set", "dump.shard_rows=64", "--feature", "pool=pool")
SHORT = ("--epochs", "1", "--batch-size", "50")
CNN, MLP = ("--student", "cnn=softlab:grey_cnn"), ("--student", "mlp=softlab:grey_mlp")

LOGITS = "outputs/logits/logits/c/0/1/0"
"""A file of the second shard."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def facts(self) -> dict[str, str]:
        """The values of a list of facts."""
        pairs = [line.split("  ", 1) for line in self.out.splitlines() if "  " in line]
        return {name: value.strip() for name, value in pairs}


Softlab = Callable[..., Answer]


def open_uncached(path: Path) -> Store:
    return open_store(path, cache=CacheOptions(max_bytes=0))


def train(store: Path | str, out: Path, *more: object) -> tuple[object, ...]:
    """Arguments of the shortest training run."""
    return ("train-student", "--store", store, "--out", out, *TRAIN, *INPUT, *MLP, *SHORT, *more)


FINISHED_ONLY = ("source_fingerprint", "samples_file", "layout_files", "shards", "statistics", "self", "digest_files")


def interrupt(out: Path) -> None:
    """Make a finished store look like a dump that was interrupted at its very end."""
    plan = {name: value for name, value in manifest_of(out).items() if name not in FINISHED_ONLY}
    (out / "manifest.json").unlink()
    (out / "commits").mkdir()
    (out / "commits/lock").touch()
    (out / "commits/plan.json").write_text(json.dumps(plan))


def manifest_of(store: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((store / "manifest.json").read_text())
    return manifest


def write_rows(path: Path, rows: pa.Table) -> Path:
    """A source of some rows of the demo's images, in a file named as theirs."""
    path.mkdir(parents=True)
    pq.write_table(rows, path / "train-00000-of-00001.parquet")
    return path


def demo_rows(count: int) -> pa.Table:
    return pq.read_table(next((DATA / "train").glob("*.parquet"))).slice(0, count)


def assert_refused(answer: Answer, *texts: str) -> None:
    """One line on stderr that says what is wrong and what to do."""
    assert answer.code == 1, answer
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for text in texts:
        assert text in answer.err, answer.err
