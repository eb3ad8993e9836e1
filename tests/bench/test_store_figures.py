from pathlib import Path
from typing import Any

import pytest

from softlab.bench.store_figures import measure_store
from tests.store.building import FORMATS, make_plan, write_store


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_are_those_of_the_files_on_disk(tmp_path: Path, format: Any) -> None:
    root = tmp_path / "store"
    manifest = write_store(root, make_plan(format=format))

    found = measure_store(root, rounds=1)

    def size(pattern: str) -> int:
        named = {file.path for shard in manifest.shards for file in shard.files}
        return sum((root / path).stat().st_size for path in named if path.startswith(pattern))

    assert (found.num_rows, found.num_shards) == (22, 6)
    assert found.bytes_per_row == {
        "labels": size("outputs/logits/") / 22,
        "features/pooled": size("outputs/pooled/") / 22,
        "all": sum((root / file.path).stat().st_size for file in manifest.files) / 22,
    }
    assert found.bytes_per_row["labels"] > 0
    assert found.open_seconds > 0
