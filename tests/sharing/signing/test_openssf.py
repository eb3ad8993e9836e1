import base64
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption, NotTrusted, RemoteFailed
from softlab.sharing.signing.bundle import decode_bundle
from softlab.sharing.signing.openssf import check_signature, name_signer, sign_files
from softlab.sharing.signing.options import SignerOptions, SigningOptions
from tests.sharing.signing.key_files import CURVES, PASSWORD, KeyFiles, write_chain, write_key

FILES = {"manifest.json": b'{"of": "a store"}', "version.json": b'{"version": 3}'}
ISSUER = "https://accounts.example.org"


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return write_key(tmp_path)


def sign(key: KeyFiles, files: dict[str, bytes] = FILES) -> bytes:
    return sign_files(files, SigningOptions(key=key.private))


def check(data: bytes, key: KeyFiles, files: dict[str, bytes] = FILES) -> str:
    return check_signature(data, files, signer=SignerOptions(key=key.public), where="labels")


@pytest.mark.parametrize("kind", CURVES)
def test_a_signature_holds_for_its_files_and_its_key(tmp_path: Path, kind: str) -> None:
    key = write_key(tmp_path, kind=kind)

    signer = check(sign(key), key)

    assert signer == f"key {hashlib.sha256(key.public.read_bytes()).hexdigest()[:16]}"


def test_a_key_with_a_password_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = write_key(tmp_path, password=PASSWORD)
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)

    data = sign_files(FILES, SigningOptions(key=key.private, key_password_env="KEY_PASSWORD"))

    assert check(data, key).startswith("key ")


@pytest.mark.parametrize(
    "others",
    [
        FILES | {"manifest.json": b'{"of": "a store."}'},
        FILES | {"version.json": b'{"version": 4}'},
        {"manifest.json": FILES["manifest.json"]},
        FILES | {"more.json": b"{}"},
        {name: FILES[other] for name, other in zip(FILES, reversed(FILES), strict=True)},
    ],
    ids=["manifest", "version", "one left out", "one more", "exchanged"],
)
def test_a_signature_holds_for_no_other_files(key: KeyFiles, others: dict[str, bytes]) -> None:
    with pytest.raises(NotTrusted, match=r"the signature is of other bytes .* Don't use the store"):
        check(sign(key), key, others)


def test_files_that_the_format_leaves_out_must_be_signed_too(key: KeyFiles) -> None:
    """It passes over `.gitignore` and its like, when it signs and when it checks."""
    with pytest.raises(NotTrusted, match=r"of other bytes \(\.gitignore\)"):
        check(sign(key, FILES | {".gitignore": b"*"}), key, FILES | {".gitignore": b"*"})


def test_a_signature_of_another_key_is_not_trusted(tmp_path: Path, key: KeyFiles) -> None:
    other = write_key(tmp_path, name="other")

    with pytest.raises(NotTrusted, match=r"labels: the signature was not made with the key .*key\.pub"):
        check(sign(other), key)


def test_a_signature_under_the_name_of_a_trusted_key_is_not_trusted(tmp_path: Path, key: KeyFiles) -> None:
    forged = json.loads(sign(write_key(tmp_path, name="other")))
    forged["verificationMaterial"] = json.loads(sign(key))["verificationMaterial"]

    with pytest.raises(NotTrusted, match="was not made with the key"):
        check(json.dumps(forged).encode(), key)


def change_payload(bundle: dict[str, Any]) -> None:
    """What an attacker would like to have been signed."""
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["resources"][0]["digest"] = hashlib.sha256(b"evil").hexdigest()
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def test_what_is_signed_cannot_be_changed(key: KeyFiles) -> None:
    bundle = json.loads(sign(key))
    change_payload(bundle)

    with pytest.raises(NotTrusted, match="Don't use the store"):
        check(json.dumps(bundle).encode(), key, FILES | {"manifest.json": b"evil"})


def test_no_byte_of_a_signature_can_be_changed_to_trust_other_files(key: KeyFiles) -> None:
    data = sign(key)

    for position in range(0, len(data), 97):
        spoilt = data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :]
        with pytest.raises(NotTrusted):
            check(spoilt, key, FILES | {"manifest.json": b"evil"})


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        bundle = json.loads(data)
        change(bundle)
        return json.dumps(bundle).encode()

    return changed


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-40],
    "binary": lambda data: b"\xff\x00" * 50,
    "no object": lambda data: b"[]",
    "deep": lambda data: b'{"a":' * 100_000,
    "key repeated": lambda data: data.replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"'),
    "inner key repeated": lambda data: data.replace(b'"payloadType":', b'"payloadType":"x","payloadType":'),
    "another spelling beside": edit(lambda bundle: bundle.update(dsse_envelope=bundle["dsseEnvelope"])),
    "another spelling instead": edit(lambda bundle: bundle.update(dsse_envelope=bundle.pop("dsseEnvelope"))),
    "no signatures": edit(lambda bundle: bundle["dsseEnvelope"].update(signatures=[])),
    "two signatures": edit(lambda bundle: bundle["dsseEnvelope"].update(signatures=[{}, {}])),
    "no key named": edit(lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint="")),
    "key of another kind": edit(lambda bundle: bundle["verificationMaterial"].update(publicKey=7)),
    "no material": edit(lambda bundle: bundle["verificationMaterial"].pop("publicKey")),
    "another media type": edit(lambda bundle: bundle.update(mediaType="text/plain")),
    "another payload type": edit(lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain")),
    "payload that is no JSON": edit(lambda bundle: bundle["dsseEnvelope"].update(payload="AAAA")),
    "payload of a list": edit(lambda bundle: bundle["dsseEnvelope"].update(payload="W10=")),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_file_that_is_no_plain_signature_is_not_trusted(key: KeyFiles, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(NotTrusted, match=r"labels: .*(Get it again|Don't use the store)"):
        check(spoil(sign(key)), key)


# Certificates.


def test_a_certificate_signs_for_those_who_trust_its_root(tmp_path: Path) -> None:
    chain = write_chain(tmp_path)

    data = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))

    for identity in (None, "Ada", "ada@example.org"):
        signer = SignerOptions(certificate=chain.root, identity=identity)
        assert check_signature(data, FILES, signer=signer, where="labels") == "CN=Ada"


def test_another_person_with_a_certificate_of_the_same_root_is_told_apart(tmp_path: Path) -> None:
    chain = write_chain(tmp_path)
    data = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))

    with pytest.raises(NotTrusted, match=r"was signed by Ada, ada@example\.org, not by Bob"):
        check_signature(data, FILES, signer=SignerOptions(certificate=chain.root, identity="Bob"), where="labels")


def test_a_certificate_of_another_root_is_not_trusted(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = write_chain(tmp_path / "ours"), write_chain(tmp_path / "theirs")
    data = sign_files(FILES, SigningOptions(key=theirs.private, certificate=theirs.certificate))

    with pytest.raises(NotTrusted, match="was not made with the certificate"):
        check_signature(data, FILES, signer=SignerOptions(certificate=ours.root), where="labels")


def test_a_certificate_signs_no_other_files(tmp_path: Path) -> None:
    chain = write_chain(tmp_path)
    data = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))

    with pytest.raises(NotTrusted, match=r"of other bytes \(manifest\.json\)"):
        check_signature(
            data, FILES | {"manifest.json": b"{}"}, signer=SignerOptions(certificate=chain.root), where="labels"
        )


def test_a_certificate_that_expired_since_is_trusted_as_nothing_proves_when_it_signed(tmp_path: Path) -> None:
    chain = write_chain(tmp_path, days=10)
    data = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))

    assert check_signature(data, FILES, signer=SignerOptions(certificate=chain.root), where="labels") == "CN=Ada"


def test_a_key_is_not_taken_for_a_certificate_nor_the_reverse(tmp_path: Path, key: KeyFiles) -> None:
    chain = write_chain(tmp_path)
    by_certificate = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))

    with pytest.raises(NotTrusted):
        check(by_certificate, key)
    with pytest.raises(NotTrusted):
        check_signature(sign(key), FILES, signer=SignerOptions(certificate=chain.root), where="labels")


def test_a_checked_signature_that_names_another_kind_of_signer_is_not_trusted(tmp_path: Path, key: KeyFiles) -> None:
    """Whatever the library that checked it may have passed over."""
    chain = write_chain(tmp_path)
    by_key = decode_bundle(sign(key), where="labels")
    signed = sign_files(FILES, SigningOptions(key=chain.private, certificate=chain.certificate))
    by_certificate = decode_bundle(signed, where="labels")

    with pytest.raises(NotTrusted, match=r"labels: names another kind of signer than the key .* Don't use the store"):
        name_signer(by_certificate, SignerOptions(key=key.public), where="labels")
    with pytest.raises(NotTrusted, match=r"labels: names another kind of signer than the certificate .* and Ada"):
        name_signer(by_key, SignerOptions(certificate=chain.root, identity="Ada"), where="labels")


# What is around it.


def test_nothing_is_left_in_the_temporary_folder(
    tmp_path: Path, key: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    check(sign(key), key)

    assert list(folder.iterdir()) == []


def test_without_a_network_sigstore_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: KeyFiles) -> None:
    """Its address is one that nothing listens at, also where the tests run with a network."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    signer = SignerOptions(identity="ada@example.org", issuer=ISSUER)

    with pytest.raises(RemoteFailed, match=r"Sigstore can't be reached, .* or use a key"):
        sign_files(FILES, SigningOptions(sigstore=True))
    with pytest.raises(RemoteFailed, match=r"Sigstore can't be reached, .* or use a key"):
        check_signature(sign(key), FILES, signer=signer, where="labels")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, key: KeyFiles) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)

    with pytest.raises(InvalidOption, match=r"pip install 'softlab\[sign\]'"):
        sign(key)
