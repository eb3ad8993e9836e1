import re
from pathlib import Path

import pytest

from softlab.errors import NotAStore, StoreBusy, UnfinishedStore
from softlab.locks import exclusive
from softlab.manifest import decode_manifest
from softlab.store.folder import LOCK_NAME
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from tests.store.building import FORMATS, contents, flip_byte, make_plan, write_some, write_store

SHARD_FILE = "outputs/logits/logits/c/1/0/0"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", make_plan())
    return tmp_path / "store"


@pytest.mark.parametrize("format", FORMATS)
def test_a_store_is_intact_as_it_was_written(tmp_path: Path, format: FormatName) -> None:
    write_store(tmp_path, make_plan(format=format))

    report = verify_store(tmp_path)

    assert report.is_intact
    assert (report.damaged, report.missing, report.foreign) == ([], [], [])
    vouched_for = {
        name: data for name, data in contents(tmp_path).items() if name not in ("manifest.json", "README.md")
    }
    assert report.num_files == len(vouched_for)
    assert report.num_bytes == sum(map(len, vouched_for.values()))
    _, digest = decode_manifest((tmp_path / "manifest.json").read_bytes(), where="here")
    assert report.digest == digest


def test_any_damaged_file_is_listed(store: Path) -> None:
    for name, good in contents(store).items():
        if name in ("manifest.json", "README.md"):
            continue
        flip_byte(store / name)
        report = verify_store(store)
        assert (report.damaged, report.missing, report.foreign) == ([name], [], [])
        assert not report.is_intact
        (store / name).write_bytes(good)


def test_files_of_another_size_are_damaged(store: Path) -> None:
    for name in (SHARD_FILE, "samples.parquet"):
        with (store / name).open("ab") as file:
            file.write(b"!")

    assert sorted(verify_store(store).damaged) == [SHARD_FILE, "samples.parquet"]


def test_missing_files_are_listed(store: Path) -> None:
    (store / SHARD_FILE).unlink()
    (store / "outputs/logits/zarr.json").unlink()

    report = verify_store(store)

    assert (report.damaged, report.missing, report.foreign) == ([], [SHARD_FILE, "outputs/logits/zarr.json"], [])
    assert not report.is_intact


def test_foreign_files_are_listed(store: Path) -> None:
    (store / "outputs/logits/logits/c/1/0/1").write_text("not ours")
    (store / "notes.txt").write_text("not ours")

    report = verify_store(store)

    assert (report.damaged, report.missing) == ([], [])
    assert report.foreign == ["notes.txt", "outputs/logits/logits/c/1/0/1"]
    assert not report.is_intact


def test_a_link_is_damage_even_if_it_leads_to_the_right_bytes(store: Path, tmp_path: Path) -> None:
    (store / SHARD_FILE).rename(tmp_path / "elsewhere")
    (store / SHARD_FILE).symlink_to(tmp_path / "elsewhere")

    assert verify_store(store).damaged == [SHARD_FILE]


def test_a_link_that_leads_nowhere_is_damage(store: Path) -> None:
    (store / SHARD_FILE).unlink()
    (store / SHARD_FILE).symlink_to("nowhere")

    assert verify_store(store).damaged == [SHARD_FILE]


def test_a_link_in_the_place_of_a_folder_is_foreign_and_its_files_are_missing(store: Path, tmp_path: Path) -> None:
    inside = {name for name in contents(store) if name.startswith("outputs/logits/")}
    (store / "outputs/logits").rename(tmp_path / "elsewhere")
    (store / "outputs/logits").symlink_to(tmp_path / "elsewhere")

    report = verify_store(store)

    assert report.foreign == ["outputs/logits"]
    assert set(report.missing) == inside


def test_a_person_may_edit_the_card(store: Path) -> None:
    (store / "README.md").write_text("# Our labels\n")
    assert verify_store(store).is_intact

    (store / "README.md").unlink()
    assert verify_store(store).is_intact


def test_what_a_killed_process_left_condemns_no_store_and_is_swept(store: Path) -> None:
    before = contents(store)
    left = ["README.md.0123456789ab.tmp", f"outputs/{'a' * 8}.0123456789ab.tmp", f"push-{'0' * 32}.json"]
    for name in left:
        (store / name).write_text("half")

    report, swept = verify_store(store), verify_store(store, sweep=True)

    assert report == swept
    assert report.is_intact
    assert (report.temporary, report.foreign) == (left, [])
    assert contents(store) == before


def test_what_another_process_is_writing_is_not_swept(store: Path) -> None:
    before = contents(store)
    half = store / "README.md.0123456789ab.tmp"
    half.write_text("half")

    with exclusive(store / LOCK_NAME), pytest.raises(StoreBusy, match="another process is writing this store"):
        verify_store(store, sweep=True)

    assert half.exists()
    verify_store(store, sweep=True)
    assert contents(store) == before


def test_a_store_that_views_are_added_to_meanwhile_is_verified_as_it_is_then(store: Path, tmp_path: Path) -> None:
    """The new store takes its place after the first file was compared with the old manifest."""
    write_store(tmp_path / "larger", make_plan(num_views=3))

    def on_file(done: int, total: int) -> None:
        if done == 1 and not list(tmp_path.glob("old")):
            store.rename(tmp_path / "old")
            (tmp_path / "larger").rename(store)

    report = verify_store(store, on_file=on_file)

    assert report.is_intact
    assert report.digest != verify_store(tmp_path / "old").digest


def test_progress_is_told_file_by_file(store: Path) -> None:
    seen: list[tuple[int, int]] = []

    report = verify_store(store, on_file=lambda done, total: seen.append((done, total)))

    assert seen == [(number, report.num_files) for number in range(1, report.num_files + 1)]


def test_there_must_be_a_finished_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStore, match="Check the address"):
        verify_store(tmp_path)

    write_some(tmp_path, make_plan(), num_shards=1)
    with pytest.raises(UnfinishedStore, match=re.escape("again to go on with it.")):
        verify_store(tmp_path)
