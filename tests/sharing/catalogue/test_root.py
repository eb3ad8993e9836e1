from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import InvalidOption, ObjectMissing
from softlab.sharing.catalogue.catalog import read_catalog
from softlab.sharing.publish.gc import collect_garbage
from tests.sharing.publishing import publish, small_store

ASKED = pytest.mark.parametrize("ask", [read_catalog, collect_garbage])
Ask = Callable[[str], object]


@ASKED
def test_a_folder_that_is_not_there_is_no_catalogue(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "file").touch()

    for name in ("nopub", "file"):
        with pytest.raises(ObjectMissing, match=f"{name}: no such folder. Check the address"):
            ask(f"{tmp_path}/{name}")


@ASKED
def test_a_store_is_no_catalogue(tmp_path: Path, ask: Ask) -> None:
    with pytest.raises(InvalidOption, match=r"store: is a store, .*Give that folder, or `softlab inspect` the store"):
        ask(str(small_store(tmp_path / "store")))


@ASKED
def test_one_name_is_no_catalogue(tmp_path: Path, ask: Ask) -> None:
    publish(small_store(tmp_path / "store"), f"{tmp_path}/labels/pets")

    with pytest.raises(InvalidOption, match=r"pets: holds the versions of one name\. Give the folder that holds the"):
        ask(f"{tmp_path}/labels/pets")


@ASKED
def test_one_name_in_a_bucket_is_no_catalogue(bucket: str, tmp_path: Path, ask: Ask) -> None:
    publish(small_store(tmp_path / "store"), f"{bucket}/labels/pets")

    with pytest.raises(InvalidOption, match=r"pets: holds the versions of one name\. Give the folder that holds the"):
        ask(f"{bucket}/labels/pets")


@ASKED
def test_a_clean_catalogue_is_one(tmp_path: Path, ask: Ask) -> None:
    publish(small_store(tmp_path / "store"), f"{tmp_path}/labels/pets")

    assert ask(f"{tmp_path}/labels")
