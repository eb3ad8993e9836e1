"""Parts of stores that have rows for units of a sample."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.convert import convert_store
from softlab.store.verify import verify_store
from tests.sharing.pulling import open_uncached, pull_part_of_part, write_keys
from tests.store.building import contents
from tests.store.unit_stores import UnitModel, assert_holds_all, fill, make_unit_plan, unit_models, write_units

FEATURES = ("states", "pooled")
ROWS = (2, 0, 3, 1, 4, 1, 2)


@settings(max_examples=8)
@given(model=unit_models(), data=st.data())
def test_the_rows_of_any_part_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, model: UnitModel, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("units")
    write_units(folder / "whole", model)

    part = pull_part_of_part(folder / "whole", data)

    assert part.store.feature_names == part.features
    assert list(part.store.read_samples().keys) == [f"{sample:03d}" for sample in part.samples]
    assert_holds_all(part.store, model, samples=part.samples, views=part.views)


@pytest.mark.parametrize(
    "options",
    [PullOptions(), PullOptions(views="1"), PullOptions(features=()), PullOptions(features=("pooled",), views="0")],
)
def test_a_part_that_is_files_of_the_whole_has_its_rows(tmp_path: Path, options: PullOptions) -> None:
    model = fill(make_unit_plan(ROWS), ROWS)
    write_units(tmp_path / "whole", model)

    pull(tmp_path / "whole", tmp_path / "part", options)

    part = open_uncached(tmp_path / "part")
    assert verify_store(tmp_path / "part").is_intact
    assert part.feature_names == (FEATURES if options.features is None else options.features)
    assert_holds_all(part, model, views=options.parse_views())


@pytest.mark.parametrize("keys", [None, ["001", "003", "006"]])
def test_a_part_may_have_no_output_with_units_any_more(tmp_path: Path, keys: list[str] | None) -> None:
    """How many rows each sample had is then left in the table of samples where that is a file of the whole."""
    model = fill(make_unit_plan(ROWS, classes=["page"]), ROWS)
    write_units(tmp_path / "whole", model)
    chosen = None if keys is None else write_keys(tmp_path / "keys.txt", keys)

    pull(tmp_path / "whole", tmp_path / "part", PullOptions(features=("pooled",), samples=chosen))

    part = open_uncached(tmp_path / "part")
    assert verify_store(tmp_path / "part").is_intact
    assert part.manifest.storage.shard_units is None
    assert_holds_all(part, model, samples=None if keys is None else [int(key) for key in keys])
    assert part.read_samples().rows_N is None
    convert_store(part, tmp_path / "converted", format="parquet")
    assert "rows" not in pq.read_schema(tmp_path / "converted/samples.parquet").names


def test_an_interrupted_pull_of_chosen_samples_goes_on(tmp_path: Path) -> None:
    model = fill(make_unit_plan(ROWS, shard_rows=2), ROWS)
    write_units(tmp_path / "whole", model)
    options = PullOptions(samples=write_keys(tmp_path / "keys.txt", ["000", "002", "004", "005", "006"]), jobs=1)
    pull(tmp_path / "whole", tmp_path / "at once", options)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path / "whole", tmp_path / "part", options, on_bytes=stop)
    pull(tmp_path / "whole", tmp_path / "part", options)

    assert contents(tmp_path / "part") == contents(tmp_path / "at once")
    assert_holds_all(open_uncached(tmp_path / "part"), model, samples=[0, 2, 4, 5, 6])
