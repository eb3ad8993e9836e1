import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.parquet_pages import Page, pages

VALUES = np.arange(5000, dtype=np.int64)


def write(**options: object) -> tuple[bytes, pq.ColumnChunkMetaData]:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"value": VALUES}), sink, **options)
    data = sink.getvalue().to_pybytes()
    return data, pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0)


def read(data: bytes, column: pq.ColumnChunkMetaData) -> list[Page]:
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return list(pages(data, start=start, stop=start + column.total_compressed_size))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_pages_are_told_as_arrow_wrote_them(version: str, compression: str) -> None:
    data, column = write(
        use_dictionary=False, compression=compression, data_page_version=version, data_page_size=8000,
        write_batch_size=500, write_page_checksum=True,
    )  # fmt: skip

    found = read(data, column)

    assert len(found) > 1
    assert sum(page.num_values for page in found) == len(VALUES)
    assert VALUES.nbytes <= sum(page.decoded_bytes for page in found) <= column.total_uncompressed_size


def test_a_dictionary_is_a_page_of_its_own() -> None:
    data, column = write(use_dictionary=True)

    dictionary, *rest = read(data, column)

    assert (dictionary.decoded_bytes, dictionary.num_values) == (VALUES.nbytes, len(VALUES))
    assert sum(page.num_values for page in rest) == len(VALUES)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_pages_are_refused_or_end(data: bytes) -> None:
    try:
        found = list(pages(data, start=0, stop=len(data)))
    except ValueError:
        return

    assert sum(2 for _ in found) <= len(data), "each page has a header"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is cut off"),
        (b"\x15", "is cut off"),
        (b"\x15" + b"\xff" * 20, "has no end"),
        (b"\x1c" * 20, "nested too deep"),
        (b"\x1d\x00", "value of type 13"),
        (b"\x15\x00\x00", "without its size"),
        (b"\x35\x7e\x00" + bytes(8), "63 bytes where 8 are left"),
        (b"\x35\x00\x00", "of no kind that is known"),
    ],
)
def test_a_wrong_header_is_refused_for_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(pages(data, start=0, stop=max(len(data), 1)))


def test_pages_do_not_begin_before_the_file() -> None:
    with pytest.raises(ValueError, match="begin at -4"):
        list(pages(bytes(10), start=-4, stop=10))
