"""Read files of keys and certificates, with errors that tell what is wrong with a file and what to give instead.

A private key is read where it lies, and neither copied nor shown.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softlab.errors import InvalidOption

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""Those that the OpenSSF format of signatures allows; it allows no other kind of key."""

MAX_PEM_BYTES = 1 << 20
NEW_KEY = "Make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


def read_password(variable: str | None) -> bytes | None:
    """From an environment variable; None without one. Raises InvalidOption where it isn't set."""
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise InvalidOption(f"the environment variable {variable} holds no password. Set it, or name another.")
    return os.environ[variable].encode()


def check_private_key(path: Path, *, password: bytes | None) -> "EllipticCurvePrivateKey":
    """Raises InvalidOption for a file that can't be signed with."""
    from cryptography.hazmat.primitives import serialization

    data = read_pem(path, what="a private key")
    if b"PRIVATE KEY-" not in data:
        found = "a public key" if b"PUBLIC KEY-" in data else "no key in PEM form"
        raise InvalidOption(f"{path}: holds {found}, and signing takes a private one. {NEW_KEY}")
    try:
        key = serialization.load_pem_private_key(data, password)
    except TypeError:  # raised for a password that isn't needed, and for none where one is needed
        state = "needs a password. Give it by --key-password-env" if password is None else "has no password. Give none"
        raise InvalidOption(f"{path}: the private key {state}.") from None
    except ValueError:
        fault = "can't be read with this password" if password else "can't be read"
        raise InvalidOption(f"{path}: the private key {fault}. Check the file and its password.") from None
    _check_curve(key, path)
    return key  # type: ignore[return-value]


def public_pem(path: Path, *, password: bytes | None) -> bytes:
    """The public half of a private key, as the file that others check its signatures with."""
    from cryptography.hazmat.primitives import serialization

    return (
        check_private_key(path, password=password)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def check_public_key(path: Path) -> None:
    """Raises InvalidOption for a file that no signature can be checked with."""
    from cryptography.hazmat.primitives import serialization

    data = read_pem(path, what="a public key")
    if b"PRIVATE KEY-" in data:
        raise InvalidOption(
            f"{path}: holds a private key, which only its owner should have. Give the public one: "
            f"openssl ec -in key.pem -pubout -out key.pub"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError:
        raise InvalidOption(f"{path}: is no public key in PEM form. Ask the signer for it.") from None
    _check_curve(key, path)


def check_certificates(path: Path) -> "list[Certificate]":
    """The certificates in a PEM file. Raises InvalidOption where there are none."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(read_pem(path, what="a certificate"))
    except ValueError:
        raise InvalidOption(f"{path}: holds no certificate in PEM form. Give one.") from None


def check_signing_certificate(path: Path, key: "EllipticCurvePrivateKey") -> None:
    """Raises InvalidOption for a certificate that isn't the key's, or isn't for signatures."""
    from cryptography import x509

    first = check_certificates(path)[0]
    if first.public_key() != key.public_key():
        raise InvalidOption(f"{path}: its first certificate is of another key. Put the key's own certificate first.")
    try:
        may_sign = first.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        may_sign = False
    if not may_sign:
        raise InvalidOption(f"{path}: is not for signatures. Get one with the key usage digitalSignature.")


def names_in(data: bytes) -> tuple[str, set[str]]:
    """The owner of a certificate in DER form: the subject as text, and its common and alternative names."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_der_x509_certificate(data)
    names = {str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string(), names
    names.update(others.get_values_for_type(x509.RFC822Name), others.get_values_for_type(x509.DNSName))
    return certificate.subject.rfc4514_string(), names.union(others.get_values_for_type(x509.UniformResourceIdentifier))


def read_pem(path: Path, *, what: str) -> bytes:
    """The bytes of a file that should hold `what`. Raises InvalidOption if it can't be read, or isn't in PEM form."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise InvalidOption(f"{path}: can't be read: {error.strerror}. Give the PEM file of {what}.") from None
    if len(data) > MAX_PEM_BYTES or b"-BEGIN " not in data:
        raise InvalidOption(f"{path}: is not in PEM form. Give the PEM file of {what}.")
    return data


def _check_curve(key: Any, path: Path) -> None:
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in CURVES:
        found = curve or type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
        known = ", ".join(CURVES.values())
        raise InvalidOption(f"{path}: is a key of the kind {found}, and signatures take {known}. {NEW_KEY}")
