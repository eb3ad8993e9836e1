import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import DamagedStore, InvalidOption, NotAStore, ObjectMissing, StoreExists, UnfinishedStore
from softlab.manifest import decode_manifest
from softlab.sharing.signing.options import SignerOptions, SigningOptions
from softlab.sharing.signing.sign import sign_store
from softlab.sharing.signing.trust import verified_digest
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.sharing.signing.key_files import PASSWORD, KeyFiles, publish_as_next, write_key
from tests.store.building import contents, flip_byte, make_plan, write_some, write_store

SHARD_FILE = "outputs/logits/logits/c/1/0/0"


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return write_key(tmp_path)


@pytest.fixture
def signing(key: KeyFiles) -> SigningOptions:
    return SigningOptions(key=key.private)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", make_plan())
    return tmp_path / "store"


def test_a_folder_is_signed_beside_its_manifest_and_stays_intact(store: Path, signing: SigningOptions) -> None:
    before = contents(store)

    signed = sign_store(store, options=signing)

    assert (signed.signature, signed.version) == (str(store / "signature.json"), None)
    assert signed.digest == open_store(store).digest
    assert {name: data for name, data in contents(store).items() if name != "signature.json"} == before
    assert verify_store(store).is_intact


def test_a_killed_signature_is_repeated_and_leaves_nothing(store: Path, signing: SigningOptions) -> None:
    (store / "signature.json.0123456789ab.tmp").write_text("half")

    sign_store(store, options=signing)

    assert not list(store.glob("*.tmp"))


def test_a_published_store_is_signed_beside_its_version(tmp_path: Path, signing: SigningOptions) -> None:
    root = tmp_path / "labels"
    where = publish_as_next(str(root), tmp_path / "store")

    signed = sign_store(f"{root}/pets@latest", options=signing)

    assert (signed.signature, signed.version) == (str(root / "pets/versions/1.sig"), "pets@1")
    assert signed.digest == open_store(where).digest
    assert verify_store(where).is_intact


def test_a_published_store_is_signed_in_a_bucket(
    tmp_path: Path, bucket: str, key: KeyFiles, signing: SigningOptions
) -> None:
    where = publish_as_next(f"{bucket}/labels", tmp_path / "store")

    signed = sign_store(where, options=signing)

    assert signed.signature == f"{bucket}/labels/pets/versions/1.sig"
    assert verified_digest(where, signer=SignerOptions(key=key.public)) == open_store(where).digest
    with pytest.raises(StoreExists, match="--replace puts yours in its place"):
        sign_store(where, options=SigningOptions(key=write_key(tmp_path, name="other").private))


def test_a_signature_is_of_the_format_that_other_tools_check(store: Path, key: KeyFiles) -> None:
    """They are told to pass over the files that the manifest vouches for."""
    from model_signing import verifying

    sign_store(store, options=SigningOptions(key=key.private))

    config: Any = verifying.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_verifier(public_key=key.public).set_ignore_unsigned_files(True)
    config.verify(store, store / "signature.json")  # raises for what isn't signed


def test_a_signed_store_is_signed_anew_only_on_request(tmp_path: Path, store: Path, signing: SigningOptions) -> None:
    sign_store(store, options=signing)
    first, other = (store / "signature.json").read_bytes(), write_key(tmp_path, name="other")

    with pytest.raises(StoreExists, match=r"is signed already. `softlab verify .* --signer"):
        sign_store(store, options=SigningOptions(key=other.private))
    assert (store / "signature.json").read_bytes() == first
    sign_store(store, options=SigningOptions(key=other.private), replace=True)

    assert verified_digest(store, signer=SignerOptions(key=other.public)) == open_store(store).digest


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_signature_with_the_same_key_is_repeated_as_one_that_was_stopped_at_its_end(
    tmp_path: Path, store: Path, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    own = write_key(tmp_path, name="own", password=password)
    signing = SigningOptions(key=own.private, key_password_env="KEY_PASSWORD" if password else None)
    first, signature = sign_store(store, options=signing), (store / "signature.json").read_bytes()

    assert sign_store(store, options=signing) == first
    assert (store / "signature.json").read_bytes() == signature
    flip_byte(store / "signature.json", position=len(signature) // 2)
    with pytest.raises(StoreExists, match="is signed already"):
        sign_store(store, options=signing)


@pytest.mark.parametrize("fault", ["damaged", "missing", "foreign"])
def test_what_is_not_as_its_manifest_says_is_not_signed_unless_told_to(
    store: Path, signing: SigningOptions, fault: str
) -> None:
    path = {"damaged": SHARD_FILE, "missing": "samples.parquet", "foreign": "outputs/logits/notes.txt"}[fault]
    match fault:
        case "damaged":
            flip_byte(store / path)
        case "missing":
            (store / path).unlink()
        case "foreign":
            (store / path).write_text("mine")

    with pytest.raises(DamagedStore, match=re.escape(f"the first one {path}. `softlab verify {store}` lists them")):
        sign_store(store, options=signing)
    assert not (store / "signature.json").exists()
    sign_store(store, options=signing, verify=False)

    assert (store / "signature.json").exists()


def test_the_files_are_counted_while_they_are_hashed(store: Path, signing: SigningOptions) -> None:
    seen: list[tuple[int, int]] = []

    sign_store(store, options=signing, on_file=lambda done, total: seen.append((done, total)))

    total = len(decode_manifest((store / "manifest.json").read_bytes(), where="here")[0].files)
    assert seen[-1] == (total, total)


def test_a_manifest_that_is_not_the_published_one_is_not_signed(tmp_path: Path, signing: SigningOptions) -> None:
    root = tmp_path / "labels"
    where, other = (publish_as_next(str(root), tmp_path / f"store-{k}", k=k) for k in (3, 4))
    theirs, ours = (open_store(address).digest for address in (where, other))
    shutil.copy(root / "pets/stores" / ours / "manifest.json", root / "pets/stores" / theirs / "manifest.json")

    with pytest.raises(
        DamagedStore, match=f"published as pets@1 .*{ours[:12]}, not {theirs[:12]}.* Get the store again"
    ):
        sign_store(where, options=signing)


def test_a_pulled_store_with_the_record_of_another_is_not_signed(
    tmp_path: Path, store: Path, signing: SigningOptions
) -> None:
    publish_as_next(str(tmp_path / "labels"), tmp_path / "other", k=4)
    shutil.copy(tmp_path / "labels/pets/versions/1.json", store / "version.json")

    with pytest.raises(DamagedStore, match="its manifest is not the one that was published as pets@1"):
        sign_store(store, options=signing, verify=False)


def test_there_must_be_a_finished_store_to_sign(tmp_path: Path, signing: SigningOptions) -> None:
    write_some(tmp_path / "unfinished", make_plan(), num_shards=1)
    write_store(tmp_path / "spoilt", make_plan())
    (tmp_path / "spoilt/manifest.json").write_text(json.dumps({"format": "softlab", "format_version": 1}))

    with pytest.raises(NotAStore, match="Check the address"):
        sign_store(tmp_path / "nothing", options=signing)
    with pytest.raises(UnfinishedStore, match="command again to go on"):
        sign_store(tmp_path / "unfinished", options=signing)
    with pytest.raises(NotAStore, match="not a valid softlab manifest"):
        sign_store(tmp_path / "spoilt", options=signing)
    with pytest.raises(ObjectMissing, match=r"`softlab catalog .*` lists"):
        sign_store(f"{tmp_path}/labels/pets@1", options=signing)


def test_a_key_that_won_t_do_leaves_no_signature(tmp_path: Path, store: Path) -> None:
    with pytest.raises(InvalidOption, match="signing takes a private one"):
        sign_store(store, options=SigningOptions(key=write_key(tmp_path).public))

    assert not (store / "signature.json").exists()
