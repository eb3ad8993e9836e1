"""The file of a signature: a Sigstore bundle, read so strictly that it has only one meaning.

The library that checks it is less strict: it knows two spellings of a JSON key, and where a key stands twice, it takes
the last one. So it could check one signature while softlab shows the signer of another one.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from softlab.errors import NotTrusted
from softlab.manifest import Record
from softlab.manifest.strict_json import decode_strictly

MAX_SIGNATURE_BYTES = 1 << 20


class _Part(Record, frozen=True, kw_only=True, rename="camel"):
    """Its fields are those of the file: media_type is mediaType there."""


class _Certificate(_Part, frozen=True, kw_only=True):
    raw_bytes: str


class _Chain(_Part, frozen=True, kw_only=True):
    certificates: Annotated[list[_Certificate], Meta(min_length=1, max_length=16)]


class _PublicKey(_Part, frozen=True, kw_only=True):
    hint: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """SHA-256 of its PEM file."""


class _Material(_Part, frozen=True, kw_only=True):
    tlog_entries: tuple[Any, ...] = ()
    public_key: _PublicKey | None = None
    x509_certificate_chain: _Chain | None = msgspec.field(name="x509CertificateChain", default=None)
    certificate: _Certificate | None = None
    timestamp_verification_data: Any = None

    def __post_init__(self) -> None:
        named = [self.public_key, self.x509_certificate_chain, self.certificate]
        if len(named) - named.count(None) != 1:
            raise ValueError("expected one of publicKey, x509CertificateChain and certificate")


class _Envelope(_Part, frozen=True, kw_only=True):
    payload: str
    payload_type: str
    signatures: Annotated[list[Any], Meta(min_length=1, max_length=1)]


class SignatureBundle(_Part, frozen=True, kw_only=True):
    """A signature by one signer. That it can be read doesn't mean that anything in it is true."""

    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope

    def key_hash(self) -> str | None:
        """SHA-256 of the signer's public key file; None if a certificate names the signer."""
        key = self.verification_material.public_key
        return None if key is None else key.hint

    def certificate(self) -> bytes | None:
        """The signer's own one (DER), the first of the chain; None if there is no chain."""
        chain = self.verification_material.x509_certificate_chain
        return None if chain is None else base64.b64decode(chain.certificates[0].raw_bytes, validate=True)

    def differing(self, files: Mapping[str, bytes]) -> list[str]:
        """Names of files whose bytes are not the signed ones, which are missing here, or which were not signed.

        Raises ValueError, TypeError or LookupError for a payload of another kind.
        """
        statement = json.loads(base64.b64decode(self.dsse_envelope.payload, validate=True))
        signed = [(each["name"], each["algorithm"], each["digest"]) for each in statement["predicate"]["resources"]]
        ours = {(name, "sha256", hashlib.sha256(data).hexdigest()) for name, data in files.items()}
        return sorted({name for name, _, _ in ours ^ set(signed)})


def decode_bundle(data: bytes, *, where: str) -> SignatureBundle:
    """Raises NotTrusted for something that is no signature."""
    try:
        return decode_strictly(data, SignatureBundle)
    except ValueError as error:
        raise NotTrusted(f"{where}: is not a valid signature: {error}. Get it again, or have it signed anew.") from None
