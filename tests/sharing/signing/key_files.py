"""Keys, certificates and small published stores, for the tests of signatures."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from softlab.manifest import encode
from softlab.manifest.versions import TagRecord
from softlab.remote.address import Address
from softlab.remote.connect import connect
from softlab.store.published import tag_path
from tests.sharing.pulling import publish
from tests.store.building import make_plan, write_store

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
PASSWORD = "correct horse"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class KeyFiles:
    """A private key and its public half, as PEM files."""

    private: Path
    public: Path


def write_key(folder: Path, *, kind: str = "P-256", name: str = "key", password: str | None = None) -> KeyFiles:
    files = KeyFiles(private=folder / f"{name}.pem", public=folder / f"{name}.pub")
    key = make_key(kind)
    files.private.write_bytes(_private_pem(key, password))
    files.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return files


def make_key(kind: str) -> PrivateKey:
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256K1() if kind == "secp256k1" else CURVES[kind])


@dataclass(frozen=True)
class Chain:
    """A root, and a signer whose certificate comes from it by way of another one."""

    root: Path
    private: Path
    certificate: Path
    """The signer's, and behind it the one between it and the root."""


def write_chain(
    folder: Path, *, name: str = "Ada", may_sign: bool = True, email: str = "ada@example.org", days: int = 30
) -> Chain:
    root_key, middle_key, own_key = (ec.generate_private_key(CURVES["P-256"]) for _ in range(3))
    root = _certificate("Example root", root_key, issuer="Example root", signed_by=root_key, is_ca=True)
    middle = _certificate("Example labs", middle_key, issuer="Example root", signed_by=root_key, is_ca=True)
    own = _certificate(
        name, own_key, issuer="Example labs", signed_by=middle_key, may_sign=may_sign, email=email, days=days
    )
    chain = Chain(root=folder / "root.crt", private=folder / f"{name}.pem", certificate=folder / f"{name}.crt")
    chain.root.write_bytes(_pem(root))
    chain.private.write_bytes(_private_pem(own_key, None))
    chain.certificate.write_bytes(_pem(own) + _pem(middle))
    return chain


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    signed_by: ec.EllipticCurvePrivateKey,
    is_ca: bool = False,
    may_sign: bool = True,
    email: str | None = None,
    days: int = 30,
) -> x509.Certificate:
    start = datetime.now(UTC) - timedelta(days=20)
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"], False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=may_sign, key_cert_sign=is_ca, crl_sign=is_ca, decipher_only=False, **usage
            ),
            critical=True,
        )
    )
    if email is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
    return builder.sign(signed_by, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: PrivateKey, password: str | None) -> bytes:
    encryption = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password.encode())
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def publish_as_next(root: str, folder: Path, *, k: int = 3) -> str:
    """A store of its own content for each k, in a folder and as the next version of ROOT/pets; its address."""
    write_store(folder, make_plan(k=k))
    return publish(folder, root)


def move_latest(root: str, *, version: int, name: str = "pets") -> None:
    tag = TagRecord(name=name, tag="latest", version=version, moved="2026-01-02T03:04:05Z", writer="0" * 32)
    connect(Address(root=root)).write(tag_path(name, "latest"), encode(tag))
