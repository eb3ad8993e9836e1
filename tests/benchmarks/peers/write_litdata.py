"""Write the rows of an .npy file as litdata chunks, in order: write_litdata.py ROWS.npy CHUNKS."""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096


def read_block(block: tuple[str, int]) -> Iterator[NDArray[np.uint8]]:
    path, start = block
    yield from np.load(path, mmap_mode="r")[start : start + BLOCK]


def main(source: str, chunks: str) -> None:
    import litdata

    num_rows = len(np.load(source, mmap_mode="r"))
    litdata.optimize(
        fn=read_block,
        inputs=[(source, start) for start in range(0, num_rows, BLOCK)],
        output_dir=chunks,
        chunk_bytes="64MB",
        num_workers=1,
        reorder_files=False,
        keep_data_ordered=True,
        verbose=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
