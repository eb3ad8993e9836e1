"""Signatures from the outside: sign, verify, train only from what is signed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import LOGITS, Softlab, assert_refused, open_uncached, train
from tests.manifests import change_manifest, set_at
from tests.sharing.pulling import publish
from tests.sharing.signing.key_files import PASSWORD, KeyFiles, write_chain, write_key
from tests.store.building import flip_byte


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return write_key(tmp_path)


@pytest.fixture
def published(tmp_path: Path, stores: Path) -> str:
    """The demo's training store as labels/pets@1."""
    return publish(stores / "train.zarr", tmp_path / "labels")


@pytest.mark.process
def test_a_store_is_signed_and_verified_with_keys_that_openssl_made(
    tmp_path: Path, store: Path, softlab: Softlab
) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)], check=True, capture_output=True
    )

    signed = softlab("sign", store, "--key", private)
    verified = softlab("verify", store, "--signer", public)

    digest = open_uncached(store).digest
    assert (signed.code, signed.err) == (0, "")
    assert signed.out.splitlines() == [
        f"{store}: signed, digest {digest}",
        f"signature: {store / 'signature.json'}",
    ]
    assert (verified.code, verified.err) == (0, "")
    first, second = verified.out.splitlines()
    assert first.startswith("signed by key ")
    assert second.startswith(f"{store}: intact, ")


def test_a_published_store_is_signed_and_verified_as_json(published: str, key: KeyFiles, softlab: Softlab) -> None:
    signed = softlab("sign", published, "--key", key.private, "--json")
    verified = softlab("verify", published, "--signer", key.public, "--min-version", "1", "--json")

    report = json.loads(verified.out)
    assert (signed.code, signed.err) == (0, "")
    assert json.loads(signed.out)["version"] == "pets@1"
    assert (verified.code, report["intact"]) == (0, True)
    assert report["signed"] | {"name": "pets", "version": 1} == report["signed"]
    assert report["signed"]["digest"] == report["digest"] == json.loads(signed.out)["digest"]
    assert "as pets@1" in softlab("verify", published, "--signer", key.public).out


def test_a_certificate_signs_and_its_root_is_trusted(tmp_path: Path, store: Path, softlab: Softlab) -> None:
    chain = write_chain(tmp_path)

    signed = softlab("sign", store, "--key", chain.private, "--certificate", chain.certificate)
    verified = softlab("verify", store, "--signer", chain.root, "--identity", "ada@example.org")

    assert signed.code == 0
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.startswith("signed by CN=Ada\n")
    assert_refused(softlab("verify", store, "--signer", chain.root, "--identity", "Bob"), "not by Bob")


def test_a_password_is_taken_from_the_environment_and_shown_nowhere(
    tmp_path: Path, store: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write_key(tmp_path, password=PASSWORD)
    monkeypatch.setenv("KEY_PASSWORD", "wrong")
    sign = ("sign", store, "--key", key.private, "--key-password-env", "KEY_PASSWORD")

    refused = softlab(*sign)
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    signed = softlab(*sign)

    assert_refused(refused, "can't be read with this password")
    assert "wrong" not in refused.err
    assert signed.code == 0
    assert PASSWORD not in signed.out + signed.err + (store / "signature.json").read_text()


def test_what_was_changed_since_is_refused_before_it_is_hashed(store: Path, key: KeyFiles, softlab: Softlab) -> None:
    assert softlab("sign", store, "--key", key.private).code == 0
    change_manifest(store, lambda tree: set_at(tree, "softlab_version", "0.0.1"))

    assert_refused(softlab("verify", store, "--signer", key.public), "of other bytes (manifest.json)", "Don't use")
    assert softlab("verify", store).code == 0


def test_files_damaged_under_and_added_beside_a_signature_are_listed(
    store: Path, key: KeyFiles, softlab: Softlab
) -> None:
    assert softlab("sign", store, "--key", key.private).code == 0
    flip_byte(store / LOGITS)
    (store / "outputs/logits/notes.txt").write_text("mine")

    verified = softlab("verify", store, "--signer", key.public)

    assert (verified.code, verified.err) == (1, "")
    assert verified.out.splitlines()[1:3] == [f"damaged: {LOGITS}", "foreign: outputs/logits/notes.txt"]
    assert f"{store}: NOT intact" in verified.out


def test_refusals_name_the_next_step(tmp_path: Path, store: Path, key: KeyFiles, softlab: Softlab) -> None:
    other = write_key(tmp_path, name="other")

    assert_refused(softlab("sign", store), "Give one of them; --certificate goes with --key")
    assert_refused(softlab("sign", store, "--key", key.public), "signing takes a private one")
    assert_refused(softlab("verify", store, "--signer", key.public), "is not signed", "`softlab sign`")
    assert_refused(softlab("verify", store, "--min-version", "2"), "Give `signer` (--signer) with a public key")
    assert softlab("sign", store, "--key", key.private, "--no-verify").code == 0
    assert_refused(softlab("sign", store, "--key", other.private), "--replace")
    assert_refused(softlab("verify", store, "--signer", other.public), "was not made with the key", "Don't use")
    assert_refused(softlab("verify", store, "--signer", key.private), "openssl ec -in key.pem -pubout")
    assert softlab("sign", store, "--key", other.private, "--replace").code == 0
    assert softlab("verify", store, "--signer", other.public).code == 0


# Pulling.


def test_a_signed_store_is_pulled_and_verified_again_where_it_lies(
    tmp_path: Path, published: str, key: KeyFiles, softlab: Softlab
) -> None:
    assert softlab("sign", published, "--key", key.private).code == 0
    require, out = ("--require-signature", key.public, "--min-version", "1"), tmp_path / "pulled"

    pulled = softlab("pull", published, out, *require)
    verified = softlab("verify", out, "--signer", key.public, "--min-version", "1")

    assert (pulled.code, pulled.err) == (0, "")
    assert pulled.facts()["signed by"].startswith("key ")
    assert (verified.code, verified.err) == (0, "")
    assert ", as pets@1\n" in verified.out


def test_a_part_of_a_signed_store_is_pulled_and_said_not_to_be_signed_itself(
    tmp_path: Path, published: str, key: KeyFiles, softlab: Softlab
) -> None:
    assert softlab("sign", published, "--key", key.private).code == 0
    part = ("pull", published, tmp_path / "part", "--features", "none", "--require-signature", key.public)

    first, again = softlab(*part), softlab(*part, "--json")

    assert (first.code, first.err) == (0, "")
    assert first.facts()["signed by"].endswith(": the whole, not this part of it")
    assert json.loads(again.out)["signed_by"].startswith("key ")
    assert_refused(softlab("verify", tmp_path / "part", "--signer", key.public), "is not signed")


def test_what_is_not_signed_is_not_pulled(tmp_path: Path, published: str, key: KeyFiles, softlab: Softlab) -> None:
    out, require = tmp_path / "pulled", ("--require-signature", key.public)

    assert_refused(softlab("pull", published, out, *require), "is not signed")
    assert softlab("sign", published, "--key", key.private).code == 0
    assert_refused(softlab("pull", published, out, *require, "--min-version", "2"), "is version 1, required is 2")
    refused = softlab("pull", published, out, "--min-version", "1")
    assert_refused(refused, "Give `require_signature` (--require-signature) as well", "`identity` (--identity)")
    assert not out.exists()


def test_of_all_with_a_certificate_one_person_can_be_required(tmp_path: Path, published: str, softlab: Softlab) -> None:
    chain, out = write_chain(tmp_path), tmp_path / "pulled"
    require = ("--require-signature", chain.root)
    assert softlab("sign", published, "--key", chain.private, "--certificate", chain.certificate).code == 0

    pull, learn = ("pull", published, out, "--identity"), (*train(Path(published), out), "--set")
    for command, ada, bob in ((pull, "Ada", "Bob"), (learn, "identity=Ada", "identity=Bob")):
        assert_refused(softlab(*command, bob, *require), "was signed by Ada, ada@example.org, not by Bob")
        assert_refused(softlab(*command, ada), "Give `require_signature` (--require-signature) as well")
        assert not out.exists()
        answer = softlab(*command, ada, *require)
        assert (answer.code, answer.err) == (0, "")
        shutil.rmtree(out)


# Training.


def test_students_are_trained_from_signed_stores(
    tmp_path: Path, published: str, key: KeyFiles, softlab: Softlab
) -> None:
    assert softlab("sign", published, "--key", key.private).code == 0
    root = published.removesuffix("/pets@1")

    answer = softlab(
        *train(
            Path(f"{root}/pets@latest"), tmp_path / "run", "--require-signature", key.public, "--set", "min_version=1"
        )
    )

    assert (answer.code, answer.err) == (0, "")


def test_students_are_not_trained_from_any_store_that_is_not_signed(
    tmp_path: Path, published: str, stores: Path, key: KeyFiles, softlab: Softlab
) -> None:
    assert softlab("sign", published, "--key", key.private).code == 0
    out, require = tmp_path / "run", ("--require-signature", key.public)
    unsigned, signed = stores / "train.zarr", Path(published)
    valid = ("--valid", stores, "--valid-store", stores / "test.zarr")

    assert_refused(softlab(*train(unsigned, out, *require)), f"{unsigned}: is not signed")
    assert_refused(softlab(*train(signed, out, "--store", unsigned, *require)), f"{unsigned}: is not signed")
    assert_refused(softlab(*train(signed, out, *valid, *require)), f"{stores / 'test.zarr'}: is not signed")
    assert_refused(softlab(*train(signed, out, *require, "--set", "min_version=2")), "is version 1, required is 2")
    assert_refused(softlab(*train(signed, out, "--set", "min_version=1")), "Give `require_signature` (--req")
    assert not out.exists()


def test_a_signed_store_that_is_not_the_one_under_the_signature_trains_nobody(
    tmp_path: Path, store: Path, stores: Path, key: KeyFiles, softlab: Softlab
) -> None:
    """Another store's signature beside it, made with the right key."""
    other = shutil.copytree(stores / "test.zarr", tmp_path / "other")
    assert softlab("sign", other, "--key", key.private).code == 0
    shutil.copy(other / "signature.json", store)

    answer = softlab(*train(store, tmp_path / "run", "--require-signature", key.public))

    assert_refused(answer, "of other bytes (manifest.json)", "Don't use the store")
