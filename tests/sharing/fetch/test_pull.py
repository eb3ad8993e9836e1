"""A whole store brought to a disk."""

import re
from pathlib import Path

import pytest

from softlab.disk import list_files
from softlab.errors import (
    DamagedStore,
    InvalidOption,
    NotAStore,
    NotTrusted,
    ObjectMissing,
    SoftlabWarning,
    StoreExists,
    StoreMismatch,
)
from softlab.manifest.versions import VersionRecord
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sharing.publish.push import push
from softlab.store.folder import PLAN_NAME
from softlab.store.format import FormatName
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME, decode_record, signature_path, version_path
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.manifests import change_manifest, set_at
from tests.servers.web import serving
from tests.sharing.pulling import PUSH, open_uncached, plan_of_three_views, publish_new
from tests.store.building import FORMATS, contents, flip_byte, make_plan, write_some, write_store

NOT_OF_THE_STORE = {"README.md", VERSION_NAME, SIGNATURE_NAME}


def files_of(store: Path) -> dict[str, bytes]:
    """Those that the manifest vouches for, and itself."""
    return {name: data for name, data in contents(store).items() if name not in NOT_OF_THE_STORE}


@pytest.mark.parametrize("format", FORMATS)
def test_a_pulled_store_is_the_published_one_to_the_last_byte(tmp_path: Path, bucket: str, format: FormatName) -> None:
    store, address = publish_new(tmp_path, f"{bucket}/labels", plan_of_three_views(format=format))

    pulled = pull(address, tmp_path / "copy")

    assert files_of(tmp_path / "copy") == files_of(store)
    assert pulled.digest == open_store(store).digest == open_store(tmp_path / "copy").digest
    assert pulled.bytes_fetched == pulled.bytes_of_whole == sum(map(len, files_of(store).values()))
    assert verify_store(tmp_path / "copy").is_intact


def test_a_store_is_pulled_from_a_web_server_which_lists_nothing(tmp_path: Path) -> None:
    store, _ = publish_new(tmp_path, tmp_path / "shared")

    with serving(tmp_path / "shared") as url:
        pulled = pull(f"{url}/pets@latest", tmp_path / "copy")
        part = pull(f"{url}/pets@1", tmp_path / "part", PullOptions(views="1", features=()))

    assert files_of(tmp_path / "copy") == files_of(store)
    assert pulled.is_whole
    assert not part.is_whole
    assert verify_store(tmp_path / "part").is_intact


def test_the_record_of_its_version_and_its_signature_come_with_it(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    published = tmp_path / "shared"
    (published / signature_path("pets", 1)).write_bytes(b"signed")

    pulled = pull(address, tmp_path / "copy")

    record = (tmp_path / "copy" / VERSION_NAME).read_bytes()
    assert record == (published / version_path("pets", 1)).read_bytes()
    assert pulled.version == decode_record(record, VersionRecord, where="the copy")
    assert pulled.version.licence == PUSH.licence
    assert (tmp_path / "copy" / SIGNATURE_NAME).read_bytes() == b"signed"


def publish_twice(folder: Path) -> tuple[Path, list[bytes]]:
    """One store as versions 1 and 2; the path of the signature of 1, and both records."""
    _, address = publish_new(folder, folder / "shared")
    push(folder / "original", address.replace("@1", "@2"), options=PUSH)
    published = folder / "shared"
    records = [(published / version_path("pets", version)).read_bytes() for version in (1, 2)]
    return published / signature_path("pets", 1), records


def test_a_signature_of_another_version_does_not_stay(tmp_path: Path) -> None:
    signature, records = publish_twice(tmp_path)
    signature.write_bytes(b"signed as version 1")
    pull(tmp_path / "shared/pets@1", tmp_path / "copy")

    pull(tmp_path / "shared/pets@2", tmp_path / "copy")

    assert (tmp_path / "copy" / VERSION_NAME).read_bytes() == records[1]
    assert not (tmp_path / "copy" / SIGNATURE_NAME).exists()


def test_a_record_of_a_version_does_not_stay_beside_a_signature_of_none(tmp_path: Path) -> None:
    publish_twice(tmp_path)
    (tmp_path / "original" / SIGNATURE_NAME).write_bytes(b"signed where it lies")
    pull(tmp_path / "shared/pets@1", tmp_path / "copy")

    pull(tmp_path / "original", tmp_path / "copy")

    assert (tmp_path / "copy" / SIGNATURE_NAME).read_bytes() == b"signed where it lies"
    assert not (tmp_path / "copy" / VERSION_NAME).exists()


def test_one_s_own_signature_of_a_copy_stays_where_there_is_no_other(tmp_path: Path) -> None:
    _, records = publish_twice(tmp_path)
    pull(tmp_path / "shared/pets@1", tmp_path / "copy")
    (tmp_path / "copy" / SIGNATURE_NAME).write_bytes(b"signed by me")

    pull(tmp_path / "shared/pets@1", tmp_path / "copy")

    assert (tmp_path / "copy" / SIGNATURE_NAME).read_bytes() == b"signed by me"
    assert (tmp_path / "copy" / VERSION_NAME).read_bytes() == records[0]


def test_the_card_of_the_version_comes_with_it(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    (tmp_path / "shared/pets/versions/1.md").write_text("the published card")

    pull(address, tmp_path / "copy")

    assert (tmp_path / "copy/README.md").read_text() == "the published card"


def test_a_version_without_a_card_gets_the_one_that_its_manifest_gives(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    (tmp_path / "shared/pets/versions/1.md").unlink(missing_ok=True)

    pull(address, tmp_path / "copy")

    assert (tmp_path / "copy/README.md").read_text() == (store / "README.md").read_text()


def test_a_store_that_is_not_published_is_copied_with_what_lies_beside_it(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    (tmp_path / "store/README.md").write_text("my card")
    (tmp_path / "store" / SIGNATURE_NAME).write_bytes(b"signed")

    pulled = pull(tmp_path / "store", tmp_path / "copy")

    assert contents(tmp_path / "copy") == contents(tmp_path / "store")
    assert pulled.version is None


def test_a_tag_means_the_version_that_has_it(tmp_path: Path) -> None:
    publish_new(tmp_path, tmp_path / "shared")

    pulled = pull(tmp_path / "shared/pets@latest", tmp_path / "copy")

    assert pulled.version is not None
    assert pulled.version.version == 1


def test_pulling_again_fetches_what_was_damaged_since_and_nothing_else(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "copy")
    whole = contents(tmp_path / "copy")
    damaged, missing = "outputs/logits/logits/c/1/0/0", "outputs/map/values/c/0/1/0/0"
    flip_byte(tmp_path / "copy" / damaged)
    (tmp_path / "copy" / missing).unlink()

    pulled = pull(address, tmp_path / "copy")

    assert contents(tmp_path / "copy") == whole
    again = (damaged, missing, "manifest.json")
    assert pulled.bytes_fetched == sum((store / name).stat().st_size for name in again)


def test_a_card_that_was_added_to_is_left_as_it_is(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "copy")
    (tmp_path / "copy/README.md").write_text("mine")

    pull(address, tmp_path / "copy")

    assert (tmp_path / "copy/README.md").read_text() == "mine"


def test_progress_is_told_in_bytes_to_the_last_one(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    told: list[tuple[int, int]] = []

    pull(address, tmp_path / "copy", on_bytes=lambda done, total: told.append((done, total)))

    total = sum(file.bytes for file in open_store(store).manifest.files)
    assert told == sorted(told)
    assert told[-1] == (total, total)


# What is refused.


def test_a_folder_that_holds_another_store_is_not_pulled_into(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    write_store(tmp_path / "copy", make_plan(k=4))
    before = contents(tmp_path / "copy")

    with pytest.raises(StoreExists, match="Choose another folder, or remove that one"):
        pull(address, tmp_path / "copy")

    assert contents(tmp_path / "copy") == before


def test_a_folder_with_other_files_is_not_pulled_into(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/thesis.tex").write_text("years of work")

    with pytest.raises(StoreExists, match="a folder with other files in it"):
        pull(address, tmp_path / "copy")

    assert list_files(tmp_path / "copy") == ["thesis.tex"]


def test_nothing_is_pulled_to_an_address() -> None:
    with pytest.raises(InvalidOption, match=r"pulled into a folder. To have it in another bucket, `softlab push` it"):
        pull("s3://bucket/labels/pets@1", "s3://other/pets")


def test_a_file_is_not_pulled_into(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    (tmp_path / "copy").write_text("a file")

    with pytest.raises(StoreExists, match="is a file"):
        pull(address, tmp_path / "copy")


def test_a_store_is_not_pulled_over_an_unfinished_one_of_another_kind(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    write_some(tmp_path / "copy", make_plan(k=4), num_shards=1)
    before = contents(tmp_path / "copy")

    with pytest.raises(StoreMismatch, match="begun differently"):
        pull(address, tmp_path / "copy")

    assert contents(tmp_path / "copy") == before


def test_a_version_that_is_not_published_can_not_be_pulled(tmp_path: Path) -> None:
    publish_new(tmp_path, tmp_path / "shared")

    with pytest.raises(ObjectMissing, match=re.escape("`softlab catalog")):
        pull(tmp_path / "shared/pets@2", tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def test_an_older_manifest_in_the_place_of_the_published_one_is_refused(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    write_store(tmp_path / "other", make_plan())
    tree = tmp_path / "shared/pets/stores" / open_store(store).digest
    (tree / "manifest.json").write_bytes((tmp_path / "other/manifest.json").read_bytes())

    with pytest.raises(DamagedStore, match="tell whoever published it"):
        pull(address, tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["manifest.json", "version.json", "Signature.json", "commits/plan.json"])
def test_a_manifest_that_names_files_which_mean_something_else_is_refused(tmp_path: Path, name: str) -> None:
    store, _ = publish_new(tmp_path, tmp_path / "shared")
    change_manifest(store, lambda tree: set_at(tree, "samples_file.path", name))

    with pytest.raises(NotAStore, match="Don't use it"):
        pull(store, tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def test_a_manifest_of_another_size_than_the_published_one_is_not_read(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    tree = tmp_path / "shared/pets/stores" / open_store(store).digest
    with (tree / "manifest.json").open("ab") as file:
        file.truncate(10**9)  # over what any manifest may have

    for ask in (open_store, verify_store, lambda where: pull(where, tmp_path / "copy")):
        with pytest.raises(DamagedStore, match=r"published as pets@1 \(1,000,000,000 bytes, not .*tell whoever"):
            ask(address)


def test_a_card_that_is_too_large_is_left_out(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    with (tmp_path / "shared/pets/versions/1.md").open("ab") as file:
        file.truncate((1 << 20) + 1)

    with pytest.warns(SoftlabWarning, match=r"1\.md: this card is left out, as it has 1,048,577 bytes"):
        pull(address, tmp_path / "copy")

    assert verify_store(tmp_path / "copy").is_intact
    assert (tmp_path / "copy/README.md").stat().st_size < 1 << 20


def test_at_least_one_file_is_fetched_at_a_time() -> None:
    with pytest.raises(InvalidOption, match="Change --jobs"):
        PullOptions(jobs=0)


def test_another_store_than_the_one_that_was_vouched_for_is_not_pulled(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    digest = open_store(store).digest

    with pytest.raises(NotTrusted, match="tell whoever published it"):
        pull(address, tmp_path / "copy", PullOptions(digest="0" * 64))

    assert not (tmp_path / "copy").exists()
    assert pull(address, tmp_path / "copy", PullOptions(digest=digest)).digest == digest


def test_nothing_of_the_pull_itself_is_left_behind(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "copy")

    assert not (tmp_path / "copy" / PLAN_NAME).parent.exists()
    assert open_uncached(tmp_path / "copy").num_samples == 11
