import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from softlab.errors import DamagedStore, NotTrusted, SoftlabError
from softlab.identity import digest_of
from softlab.manifest import encode
from softlab.manifest.versions import VersionRecord
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sharing.signing.bundle import MAX_SIGNATURE_BYTES
from softlab.sharing.signing.options import SignerOptions, SigningOptions
from softlab.sharing.signing.sign import sign_store
from softlab.sharing.signing.trust import check_digest, check_trust, open_trusted, verified_digest
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from tests.manifests import change_manifest, set_at
from tests.servers.faulty import answering, running_faulty
from tests.sharing.signing.key_files import KeyFiles, move_latest, publish_as_next, write_key
from tests.store.building import contents, flip_byte, make_plan, write_store


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and a place where versions 1 and 2 of different content are published and signed with it."""
    folder = tmp_path_factory.mktemp("signed")
    key = write_key(folder)
    for version, k in [(1, 3), (2, 4)]:
        where = publish_as_next(str(folder / "labels"), folder / f"store-{version}", k=k)
        sign_store(where, options=SigningOptions(key=key.private))
    return folder


@pytest.fixture
def key(signed: Path) -> KeyFiles:
    return KeyFiles(private=signed / "key.pem", public=signed / "key.pub")


@pytest.fixture
def signer(key: KeyFiles) -> SignerOptions:
    return SignerOptions(key=key.public)


@pytest.fixture
def root(tmp_path: Path, signed: Path) -> Path:
    """One's own copy of that place, to attack."""
    return shutil.copytree(signed / "labels", tmp_path / "labels")


@pytest.fixture
def store(tmp_path: Path, key: KeyFiles) -> Path:
    """A folder that was signed where it lies."""
    write_store(tmp_path / "store", make_plan())
    sign_store(tmp_path / "store", options=SigningOptions(key=key.private))
    return tmp_path / "store"


def test_a_signature_vouches_for_the_digest_and_version_of_a_published_store(root: Path, signer: SignerOptions) -> None:
    vouched = check_trust(f"{root}/pets@latest", signer=signer)

    assert vouched.digest == open_store(f"{root}/pets@2").digest
    assert (vouched.name, vouched.version) == ("pets", 2)
    assert vouched.signer.startswith("key ")
    assert verified_digest(f"{root}/pets@1", signer=signer) == open_store(f"{root}/pets@1").digest


def test_a_signature_vouches_for_a_folder_without_a_version(store: Path, signer: SignerOptions) -> None:
    vouched = check_trust(store, signer=signer)

    assert (vouched.digest, vouched.name, vouched.version) == (open_store(store).digest, None, None)


def test_a_pulled_store_keeps_its_version_and_signature(tmp_path: Path, root: Path, signer: SignerOptions) -> None:
    pulled = pull(f"{root}/pets@2", tmp_path / "pulled").out

    vouched = check_trust(pulled, signer=signer, min_version=2)

    assert (vouched.name, vouched.version) == ("pets", 2)
    with pytest.raises(NotTrusted, match="is version 2, required is 3 or a later one"):
        check_trust(pulled, signer=signer, min_version=3)


def test_only_the_store_that_a_signature_vouches_for_is_pulled(
    tmp_path: Path, root: Path, signer: SignerOptions
) -> None:
    vouched = verified_digest(f"{root}/pets@2", signer=signer)

    part = pull(f"{root}/pets@2", tmp_path / "part", PullOptions(digest=vouched, features=()))
    with pytest.raises(NotTrusted, match=r"pets@1: was changed while it was read"):
        pull(f"{root}/pets@1", tmp_path / "other", PullOptions(digest=vouched))
    with pytest.raises(NotTrusted, match=r"a part of a signed store is checked when it is pulled"):
        verified_digest(part.out, signer=signer)

    assert part.manifest.parent == vouched
    assert not (tmp_path / "other").exists()


def test_an_unsigned_store_is_refused(tmp_path: Path, signer: SignerOptions) -> None:
    where = publish_as_next(str(tmp_path / "labels"), tmp_path / "store")

    for unsigned in (where, tmp_path / "store"):
        with pytest.raises(NotTrusted, match=f"{unsigned}: is not signed .* Ask its publisher to `softlab sign` it"):
            verified_digest(unsigned, signer=signer)


def test_a_store_that_was_pulled_before_it_was_signed_is_to_be_pulled_again(
    tmp_path: Path, root: Path, key: KeyFiles, signer: SignerOptions
) -> None:
    (versions(root) / "2.sig").unlink()
    pulled = pull(f"{root}/pets@2", tmp_path / "pulled").out

    with pytest.raises(NotTrusted, match=r"or pull it again, if it was signed since"):
        verified_digest(pulled, signer=signer)
    with pytest.raises(NotTrusted, match=r"`softlab sign` it; a part"):
        verified_digest(f"{root}/pets@2", signer=signer)


def test_a_store_that_another_key_signed_is_refused(tmp_path: Path, root: Path) -> None:
    other = SignerOptions(key=write_key(tmp_path, name="other").public)

    with pytest.raises(NotTrusted, match=r"was not made with the key .*other\.pub"):
        verified_digest(f"{root}/pets@1", signer=other)


def test_a_web_server_that_denies_access_to_what_is_missing_has_no_version_record(
    store: Path, signer: SignerOptions
) -> None:
    with running_faulty(contents(store)) as server:
        server.faults["version.json"] = answering(403)

        vouched = check_trust(server.url, signer=signer)

    assert (vouched.digest, vouched.version) == (open_store(store).digest, None)


def test_a_signature_of_a_version_does_not_hold_while_access_to_its_record_is_denied(
    tmp_path: Path, root: Path, signer: SignerOptions
) -> None:
    pulled = pull(f"{root}/pets@2", tmp_path / "pulled").out
    with running_faulty(contents(pulled)) as server:
        server.faults["version.json"] = answering(403)

        with pytest.raises(NotTrusted, match=r"of other bytes \(version\.json\)"):
            check_trust(server.url, signer=signer)


# What an attacker who may write everything but has no key can do.


def versions(root: Path) -> Path:
    return root / "pets/versions"


def replay_old_version(root: Path) -> None:
    """The whole of version 1 in the place of version 2."""
    for kind in ("json", "sig"):
        shutil.copy(versions(root) / f"1.{kind}", versions(root) / f"2.{kind}")


def replay_old_store(root: Path) -> None:
    """Version 2 means the store of version 1, with its record's number changed to fit."""
    change_record(root, version=2, take=1)
    shutil.copy(versions(root) / "1.sig", versions(root) / "2.sig")


def change_record(root: Path, *, take: int = 2, **changes: object) -> None:
    """In place of that of version 2."""
    record = msgspec.json.decode((versions(root) / f"{take}.json").read_bytes(), type=VersionRecord)
    changed = encode(msgspec.structs.replace(record, **changes))
    assert changed != (versions(root) / "2.json").read_bytes()
    (versions(root) / "2.json").write_bytes(changed)


def swap_signatures(root: Path) -> None:
    shutil.copy(versions(root) / "1.sig", versions(root) / "2.sig")


def forge_manifest(root: Path) -> None:
    """And all that names its digest."""
    digest = open_store(f"{root}/pets@2").digest
    store = root / "pets/stores" / digest
    change_manifest(store, lambda tree: set_at(tree, "outputs.0.head", "sigmoid"))
    forged = digest_of((store / "manifest.json").read_bytes())
    store.rename(store.with_name(forged))
    change_record(root, digest=forged)


def flip_manifest(root: Path) -> None:
    digest = open_store(f"{root}/pets@2").digest
    flip_byte(root / "pets/stores" / digest / "manifest.json", position=-40)


def huge_signature(root: Path) -> None:
    with (versions(root) / "2.sig").open("wb") as file:
        file.truncate(1 << 40)


ATTACKS: dict[str, Callable[[Path], None]] = {
    "old version replayed": replay_old_version,
    "old store under a new number": replay_old_store,
    "licence changed": lambda root: change_record(root, licence="MIT"),
    "terms changed": lambda root: change_record(root, terms="none"),
    "name changed": lambda root: change_record(root, name="cats"),
    "writer changed": lambda root: change_record(root, writer="1" * 32),
    "white space changed": lambda root: flip_white_space(versions(root) / "2.json"),
    "manifest changed": forge_manifest,
    "manifest damaged": flip_manifest,
    "signatures swapped": swap_signatures,
    "signature removed": lambda root: (versions(root) / "2.sig").unlink(),
    "signature empty": lambda root: os.truncate(versions(root) / "2.sig", 0),
    "signature huge": huge_signature,
}


def flip_white_space(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n ", 1))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_but_what_was_signed_is_trusted(
    root: Path, signer: SignerOptions, attack: Callable[[Path], None]
) -> None:
    attack(root)

    for where in (f"{root}/pets@2", f"{root}/pets@latest"):
        with pytest.raises((NotTrusted, DamagedStore)):
            verified_digest(where, signer=signer)
    assert verified_digest(f"{root}/pets@1", signer=signer) == open_store(f"{root}/pets@1").digest


def test_the_next_step_after_an_attack_is_not_to_use_the_store(root: Path, signer: SignerOptions) -> None:
    swap_signatures(root)

    with pytest.raises(NotTrusted, match=r"of other bytes \(manifest\.json, version\.json\).* Don't use the store"):
        verified_digest(f"{root}/pets@2", signer=signer)


def test_a_signature_is_read_only_as_far_as_one_can_be_long(root: Path, signer: SignerOptions) -> None:
    huge_signature(root)

    with pytest.raises(NotTrusted, match=f"over {MAX_SIGNATURE_BYTES:,} bytes is no signature. Have it signed anew"):
        verified_digest(f"{root}/pets@2", signer=signer)


def test_a_tag_that_was_moved_back_is_noticed_with_a_least_version(root: Path, signer: SignerOptions) -> None:
    """An older version is signed as well: only who knows of the newer one can tell."""
    where = f"{root}/pets@latest"
    assert verified_digest(where, signer=signer, min_version=2) == open_store(f"{root}/pets@2").digest
    move_latest(str(root), version=1)

    with pytest.raises(NotTrusted, match=r"is version 1, required is 2 or a later one. .* `min_version`"):
        verified_digest(where, signer=signer, min_version=2)


def test_a_signed_version_record_cannot_be_added_or_taken_away(
    tmp_path: Path, root: Path, store: Path, signer: SignerOptions
) -> None:
    pulled = pull(f"{root}/pets@2", tmp_path / "pulled").out
    shutil.move(pulled / "version.json", tmp_path)
    shutil.copy(versions(root) / "2.json", store / "version.json")

    for where in (pulled, store):
        with pytest.raises(NotTrusted, match=r"of other bytes \(version\.json\)"):
            verified_digest(where, signer=signer)


def test_a_folder_without_a_version_has_no_least_one(store: Path, signer: SignerOptions) -> None:
    with pytest.raises(NotTrusted, match=r"its signature is of no version, .* leave `min_version` out"):
        verified_digest(store, signer=signer, min_version=1)


def test_a_record_that_its_signer_did_not_check_is_refused(
    tmp_path: Path, root: Path, key: KeyFiles, signer: SignerOptions
) -> None:
    """Signed by other means, the record is of another store than the manifest beside it."""
    from softlab.sharing.signing.openssf import sign_files

    pulled = pull(f"{root}/pets@2", tmp_path / "pulled").out
    shutil.copy(versions(root) / "1.json", pulled / "version.json")
    files = {name: (pulled / name).read_bytes() for name in ("manifest.json", "version.json")}
    (pulled / "signature.json").write_bytes(sign_files(files, SigningOptions(key=key.private)))

    with pytest.raises(DamagedStore, match="not the one that was published as pets@1"):
        verified_digest(pulled, signer=signer)


# Stores that are opened.


def test_a_trusted_store_is_opened(root: Path, store: Path, signer: SignerOptions) -> None:
    cache = CacheOptions(max_bytes=0)

    for where in (store, f"{root}/pets@latest"):
        assert open_trusted(where, signer=signer, cache=cache).digest == open_store(where).digest


def test_views_that_were_added_since_are_not_signed(store: Path, signer: SignerOptions) -> None:
    (store / "manifest.json").write_bytes((store / "manifest.json").read_bytes() + b"\n")

    with pytest.raises(NotTrusted, match=r"of other bytes \(manifest\.json\): the store was changed since"):
        open_trusted(store, signer=signer)


def test_a_store_that_changes_between_two_readings_is_refused() -> None:
    check_digest("1" * 64, "1" * 64, where="labels")
    with pytest.raises(NotTrusted, match=r"labels: was changed while it was read .* Try again"):
        check_digest("1" * 64, "2" * 64, where="labels")


def test_a_store_in_a_bucket_is_trusted_and_one_that_was_changed_there_is_not(
    tmp_path: Path, bucket: str, key: KeyFiles, signer: SignerOptions
) -> None:
    first = publish_as_next(bucket, tmp_path / "first")
    sign_store(first, options=SigningOptions(key=key.private))
    second = publish_as_next(bucket, tmp_path / "second", k=4)

    assert verified_digest(first, signer=signer, min_version=1) == open_store(first).digest
    errors: list[SoftlabError] = []
    for where in (second, f"{bucket}/pets@latest"):
        with pytest.raises(NotTrusted, match=r"is not signed \(there is no s3://") as error:
            verified_digest(where, signer=signer)
        errors.append(error.value)
    assert not any("secret" in str(error) for error in errors)
