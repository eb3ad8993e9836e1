import base64
import hashlib
import json
from typing import Any

import pytest

from softlab.errors import NotTrusted
from softlab.sharing.signing.bundle import decode_bundle

FILES = {"manifest.json": b"{}", "version.json": b"[]"}
HINT = "ab" * 32
CHAIN = {"certificates": [{"rawBytes": base64.b64encode(name).decode()} for name in (b"own", b"middle")]}


def make_bundle(material: dict[str, Any], *, files: dict[str, bytes] = FILES) -> bytes:
    """As the format writes it; nothing in it is signed."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    ]
    payload = base64.b64encode(json.dumps({"predicate": {"resources": resources}}).encode()).decode()
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": payload,
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "AA==", "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode()


@pytest.mark.parametrize(
    ("material", "key_hash", "certificate"),
    [
        ({"publicKey": {"hint": HINT}, "tlogEntries": []}, HINT, None),
        ({"x509CertificateChain": CHAIN}, None, b"own"),
        ({"certificate": {"rawBytes": "AA=="}, "tlogEntries": [{"logIndex": "1"}]}, None, None),
        ({"certificate": {"rawBytes": "AA=="}, "timestampVerificationData": {"rfc3161Timestamps": []}}, None, None),
    ],
    ids=["key", "certificate", "Sigstore", "Sigstore with a timestamp"],
)
def test_each_kind_of_signer_is_read(material: dict[str, Any], key_hash: str | None, certificate: bytes | None) -> None:
    bundle = decode_bundle(make_bundle(material), where="here")

    assert (bundle.key_hash(), bundle.certificate()) == (key_hash, certificate)


def test_files_are_compared_by_name_and_bytes() -> None:
    bundle = decode_bundle(make_bundle({"publicKey": {"hint": HINT}}), where="here")

    assert bundle.differing(FILES) == []
    assert bundle.differing(dict(reversed(FILES.items()))) == []
    assert bundle.differing({"manifest.json": b"{}"}) == ["version.json"]
    assert bundle.differing(FILES | {"version.json": b"{}"}) == ["version.json"]
    assert bundle.differing(FILES | {"more.json": b"{}"}) == ["more.json"]


@pytest.mark.parametrize(
    "material",
    [
        {"publicKey": {"hint": HINT}, "public_key": {"hint": HINT}},
        {"publicKey": {"hint": HINT, "rawBytes": "AA=="}},
        {"publicKey": {"hint": HINT.upper()}},
        {"publicKey": {"hint": HINT + "\n"}},
        {"publicKey": {"hint": HINT}, "x509CertificateChain": CHAIN},
        {"publicKey": {"hint": HINT}, "certificate": {"rawBytes": "AA=="}},
        {"x509CertificateChain": CHAIN, "certificate": {"rawBytes": "AA=="}},
        {"tlogEntries": []},
        {"x509CertificateChain": {"certificates": []}},
        {"x509CertificateChain": {"certificates": CHAIN["certificates"] * 9}},
        {"x509CertificateChain": CHAIN, "x509_certificate_chain": CHAIN},
        {"tlogEntries": 7},
        [],
    ],
    ids=str,
)
def test_whatever_could_be_read_in_two_ways_is_refused(material: Any) -> None:
    with pytest.raises(NotTrusted, match=r"here: is not a valid signature: .*Get it again, or have it signed anew"):
        decode_bundle(make_bundle(material), where="here")
