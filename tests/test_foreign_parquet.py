"""Changed bytes of a Parquet file, whatever they do to Arrow, end in one kind of error and never end the process."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import SourceError
from softlab.foreign_parquet import ForeignParquet
from softlab.sources.parquet import open_parquet
from softlab.store.parquet_format import ParquetFormat
from softlab.store.pixel_digests import decode_digests
from softlab.store.samples import decode_samples, has_content_hashes
from tests.forks import run_in_fork
from tests.store.building import make_plan, with_digests, write_store

PART = "outputs/logits/view=00000/part-00000.parquet"
MUTATIONS = 150
"""Of each file; some 20,000 took a minute or two and found what the door is for."""

FIELDS = {"image": "image", "caption": "caption", "vector": "vector"}
TABLE = pa.table(
    {
        "image": pa.array([{"bytes": bytes(range(40)), "path": f"{number}.png"} for number in range(30)]),
        "caption": [f"number {number}" for number in range(30)],
        "vector": pa.array([[float(number)] * 5 for number in range(30)]),
        "label": ["cat", "dog", None] * 10,
    }
)


def encoded(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_samples(data: bytes, folder: Path) -> None:
    has_content_hashes(data)
    list(decode_samples(data, num_samples=11).keys)


def read_digests(data: bytes, folder: Path) -> None:
    decode_digests(data, max_rows=11)


def read_labels(data: bytes, folder: Path) -> None:
    plan = make_plan(format="parquet")
    fields = plan.storage.fields_of("outputs/logits")
    out = {field.name: np.zeros((4, *field.row_shape), dtype=field.dtype) for field in fields}
    ParquetFormat().decode(plan, plan.grid.shard(0, 0), fields, {PART: data}, out)


def read_source(data: bytes, folder: Path) -> None:
    path = folder / f"{os.getpid()}.parquet"
    path.write_bytes(data)
    try:
        source = open_parquet(str(path), fields=FIELDS, label_column="label")
        for index in range(len(source)):
            source.read(index)
    except SourceError as error:
        raise ValueError from error


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "samples.parquet": read_samples,
    "pixel_digests/view-00000.parquet": read_digests,
    PART: read_labels,
    "source": read_source,
}
WITHOUT_CHECKSUMS = {"compression": "none", "use_dictionary": False, "write_page_index": True}
OTHERWISE = {"compression": "snappy", "data_page_version": "2.0"}


def variants(name: str, folder: Path) -> list[bytes]:
    """A file as softlab writes it, and as others may; without checksums changed bytes of pages are decoded."""
    data = encoded(TABLE, row_group_size=10) if name == "source" else (folder / name).read_bytes()
    table = TABLE if name == "source" else pq.read_table(pa.BufferReader(data))
    return [data, encoded(table, **WITHOUT_CHECKSUMS), encoded(table, **OTHERWISE)]


def changed(data: bytes, draw: random.Random) -> bytes:
    """One to three changes, more than half of them in the footer."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        footer = len(found) - 8 - int.from_bytes(data[-8:-4], "little")
        at = draw.randrange(max(footer, 0) if draw.random() < 0.6 else 0, len(found))
        kind = draw.choice(["bit", "bit", "byte", "zeros", "lost", "more", "elsewhere"])
        if kind == "bit":
            found[at] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            found[at] = draw.randrange(256)
        elif kind == "zeros":
            found[at : at + 8] = bytes(len(found[at : at + 8]))
        elif kind == "lost":
            del found[at : at + draw.randint(1, 4)]
        elif kind == "more":
            found[at:at] = draw.randbytes(2)
        else:
            found[at : at + 8] = found[draw.randrange(len(found)) :][:8]
    return bytes(found)


def read_changed(name: str, files: list[bytes], folder: Path, seed: int) -> None:
    """In a process of its own, which Arrow may end."""
    draw = random.Random(seed)
    for _ in range(MUTATIONS):
        for data in files:
            try:
                READERS[name](changed(data, draw), folder)
            except ValueError:
                continue
            except LookupError:  # a column isn't there; whoever reads a store takes it for damage
                assert name == PART


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet")
    write_store(folder, with_digests(make_plan(format="parquet"), every=1))
    return folder


@pytest.mark.process
@pytest.mark.parametrize("name", READERS)
def test_changed_bytes_are_refused_or_read_and_never_end_the_process(store: Path, tmp_path: Path, name: str) -> None:
    files = variants(name, store)
    for data in files:
        READERS[name](data, tmp_path)

    assert run_in_fork(read_changed, name, files, tmp_path, 0) == 0


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_a_file_is_read_as_arrow_reads_it(tmp_path: Path, is_on_disk: bool) -> None:
    data = encoded(TABLE, row_group_size=10)
    (tmp_path / "file.parquet").write_bytes(data)

    with ForeignParquet(tmp_path / "file.parquet" if is_on_disk else data) as file:
        assert file.num_rows == 30
        assert file.read(["label"]) == TABLE.select(["label"])
        assert file.read_group(1, ["vector", "label"]) == TABLE.select(["vector", "label"])[10:20]
        blocks = list(file.blocks("caption", rows=8))

    assert [text for block in blocks for text in block.to_pylist()] == TABLE["caption"].to_pylist()


def test_text_that_is_not_utf_8_is_refused_before_anyone_looks_at_it() -> None:
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"a\xff\xfe"))

    with pytest.raises(ValueError, match="Invalid UTF8"):
        ForeignParquet(encoded(pa.table({"text": texts}))).read(["text"])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + bytes(30) + b"PAR1"])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)

    with pytest.raises(ValueError, match=r"Parquet|footer|metadata|thrift|TProtocol"):
        ForeignParquet(data)
    with pytest.raises(ValueError, match=r"Parquet|footer|metadata|thrift|TProtocol"):
        ForeignParquet(tmp_path / "file")


def test_a_file_that_is_not_there_is_the_disk_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ForeignParquet(tmp_path / "file")


def test_what_arrow_quotes_of_a_file_holds_no_signs_that_a_terminal_obeys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise pa.ArrowInvalid("don't know what type: \x1b[2J\x0f")

    monkeypatch.setattr(pq, "ParquetFile", refuse)

    with pytest.raises(ValueError, match=r"^don't know what type: \?\[2J\?$"):
        ForeignParquet(b"any bytes")


def test_no_changed_footer_makes_rows_that_it_does_not_count() -> None:
    data, told = encoded(pa.table({"number": list(range(100))}), row_group_size=40), set()
    footer_length = int.from_bytes(data[-8:-4], "little")

    for at in range(len(data) - 8 - footer_length, len(data) - 8):
        try:
            file = ForeignParquet(data[:at] + b"\0" + data[at + 1 :])
            found = [file.read(["number"]), file.read_group(0, ["number"])]
            blocks = list(file.blocks("number", rows=64))
        except ValueError as error:
            told.add(str(error))
            continue
        assert [len(each) for each in found] == [file.num_rows, file.metadata.row_group(0).num_rows]
        assert sum(map(len, blocks)) == file.num_rows

    assert any(each.startswith("its footer says 100 rows, and it") for each in told)
