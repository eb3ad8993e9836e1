import os
import re
from pathlib import Path

import pytest

from softlab.errors import StoreExists
from softlab.manifest import StorePlan, encode
from softlab.store.cache import CacheOptions
from softlab.store.folder import PLAN_NAME, count_finished_shards, find_finished, is_unfinished, read_plan
from softlab.store.reader import open_store
from tests.store.building import changed_plans, contents, make_plan, with_arguments, write_some, write_store


def test_an_unfinished_store_says_what_it_is(tmp_path: Path) -> None:
    plan = make_plan()
    assert not is_unfinished(tmp_path)

    write_some(tmp_path, plan, num_shards=4)

    assert is_unfinished(tmp_path)
    assert read_plan(tmp_path) == plan
    assert count_finished_shards(tmp_path) == 4
    write_store(tmp_path, plan)
    assert not is_unfinished(tmp_path)


def test_a_folder_of_records_that_is_removed_while_it_is_read_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another process that has finished the store."""
    write_some(tmp_path, make_plan(), num_shards=4)

    def gone(folder: Path) -> None:
        raise FileNotFoundError(folder)

    monkeypatch.setattr(os, "scandir", gone)

    assert count_finished_shards(tmp_path) == 0


def test_a_finished_dump_is_found(tmp_path: Path) -> None:
    plan = make_plan()
    assert find_finished(tmp_path, plan) is None

    write_some(tmp_path, plan, num_shards=6)
    assert find_finished(tmp_path, plan) is None

    assert write_store(tmp_path, plan) == find_finished(tmp_path, plan)


@pytest.mark.parametrize("change", changed_plans())
def test_a_finished_store_of_another_plan_is_refused_with_the_difference(tmp_path: Path, change: str) -> None:
    write_store(tmp_path, make_plan())
    plan, difference = changed_plans()[change]

    with pytest.raises(StoreExists, match=re.escape(difference)) as refused:
        find_finished(tmp_path, plan)

    assert "Choose another folder, or remove that one; `dump.views` with more than it has adds views to it." in str(
        refused.value
    )


def test_a_plan_with_tuples_in_it_is_the_same_when_read_back(tmp_path: Path) -> None:
    """JSON gives lists back."""
    plan = with_arguments(make_plan(), {"size": (2, 3), "blocks": [(1, 2)]})
    write_some(tmp_path, plan, num_shards=1)

    manifest = write_store(tmp_path, plan)

    assert find_finished(tmp_path, plan) == open_store(tmp_path).manifest
    assert manifest.statistics["logits"].rows == 22


def test_a_finished_dump_is_tidied_if_it_was_interrupted_after_its_manifest(tmp_path: Path) -> None:
    plan = make_plan()
    write_some(tmp_path, plan, num_shards=6)
    commits = {name: data for name, data in contents(tmp_path).items() if name.startswith("commits/")}
    write_store(tmp_path, plan)
    expected = contents(tmp_path)
    for name, data in commits.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert not is_unfinished(tmp_path)
    assert open_store(tmp_path, cache=CacheOptions(max_bytes=0)).read([0]).k == 3

    find_finished(tmp_path, plan)

    assert contents(tmp_path) == expected


def test_a_plan_that_another_process_tidies_away_meanwhile_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finished the store, and removes its plan after we have seen it and before we read it."""
    plan = make_plan()
    write_store(tmp_path, plan)
    expected = contents(tmp_path)
    (tmp_path / PLAN_NAME).parent.mkdir()
    (tmp_path / PLAN_NAME).write_bytes(encode(plan))

    def read_too_late(root: Path) -> StorePlan:
        (root / PLAN_NAME).unlink()
        return read_plan(root)

    monkeypatch.setattr("softlab.store.folder.read_plan", read_too_late)

    assert find_finished(tmp_path, plan) == open_store(tmp_path).manifest
    assert contents(tmp_path) == expected
