import re
from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from softlab.sharing.signing.keys import (
    MAX_PEM_BYTES,
    check_certificates,
    check_private_key,
    check_public_key,
    check_signing_certificate,
    names_in,
    read_password,
)
from tests.sharing.signing.key_files import CURVES, PASSWORD, write_chain, write_key


@pytest.mark.parametrize("kind", CURVES)
def test_keys_of_three_curves_will_do(tmp_path: Path, kind: str) -> None:
    files = write_key(tmp_path, kind=kind)

    key = check_private_key(files.private, password=None)
    check_public_key(files.public)

    assert key.key_size == int(kind.removeprefix("P-"))


@pytest.mark.parametrize("kind", ["Ed25519", "RSA", "secp256k1"])
def test_keys_of_other_kinds_are_refused_with_the_command_that_makes_one(tmp_path: Path, kind: str) -> None:
    files = write_key(tmp_path, kind=kind)

    with pytest.raises(InvalidOption, match=f"of the kind {kind}, .* openssl ecparam -name prime256v1"):
        check_private_key(files.private, password=None)
    with pytest.raises(InvalidOption, match=f"of the kind {kind}, .* P-256, P-384, P-521"):
        check_public_key(files.public)


def test_each_half_of_a_key_is_refused_in_the_place_of_the_other(tmp_path: Path) -> None:
    files = write_key(tmp_path)

    with pytest.raises(InvalidOption, match="holds a public key, and signing takes a private one"):
        check_private_key(files.public, password=None)
    with pytest.raises(InvalidOption, match=r"holds a private key, .* openssl ec -in key.pem -pubout"):
        check_public_key(files.private)


def test_a_missing_file_names_itself_and_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape(f"{tmp_path / 'no.pem'}: can't be read: No such file")):
        check_private_key(tmp_path / "no.pem", password=None)
    with pytest.raises(InvalidOption, match="Give the PEM file of a public key"):
        check_public_key(tmp_path / "no.pub")
    with pytest.raises(InvalidOption, match="Give the PEM file of a certificate"):
        check_certificates(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"not PEM", b"\0" * 100, b"-----BEGIN " + b"A" * MAX_PEM_BYTES], ids=["empty", "text", "NUL", "huge"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)

    with pytest.raises(InvalidOption, match=r"is not in PEM form. Give the PEM file of a private key"):
        check_private_key(path, password=None)


def test_a_spoilt_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    files = write_key(tmp_path)
    secret = files.private.read_text().splitlines()[1][:40]
    files.private.write_text(files.private.read_text().replace("\n", "\n!", 2))
    files.public.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")

    with pytest.raises(InvalidOption, match=r"can't be read. Check the file") as error:
        check_private_key(files.private, password=None)
    with pytest.raises(InvalidOption, match="is no public key in PEM form"):
        check_public_key(files.public)

    assert secret not in str(error.value)
    assert secret not in repr(error.value.__cause__)


def test_a_password_is_asked_for_used_and_told_wrong_without_being_shown(tmp_path: Path) -> None:
    locked, plain = write_key(tmp_path, password=PASSWORD), write_key(tmp_path, name="plain")

    assert check_private_key(locked.private, password=PASSWORD.encode()).key_size == 256
    with pytest.raises(InvalidOption, match=r"needs a password. Give it by --key-password-env"):
        check_private_key(locked.private, password=None)
    with pytest.raises(InvalidOption, match="can't be read with this password") as error:
        check_private_key(locked.private, password=b"wrong horse")
    with pytest.raises(InvalidOption, match=r"has no password. Give none"):
        check_private_key(plain.private, password=PASSWORD.encode())

    assert "horse" not in str(error.value)


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    monkeypatch.setenv("EMPTY", "")

    assert read_password("KEY_PASSWORD") == PASSWORD.encode()
    assert read_password(None) is None
    for name in ("EMPTY", "NOT_SET_AT_ALL"):
        with pytest.raises(InvalidOption, match=f"{name} holds no password. Set it"):
            read_password(name)


def test_a_certificate_must_be_the_keys_own_and_for_signatures(tmp_path: Path) -> None:
    ada, other = write_chain(tmp_path), write_key(tmp_path)
    mute = write_chain(tmp_path, name="Mute", may_sign=False)

    check_signing_certificate(ada.certificate, check_private_key(ada.private, password=None))
    with pytest.raises(InvalidOption, match=r"is of another key. Put the key's own certificate first"):
        check_signing_certificate(ada.certificate, check_private_key(other.private, password=None))
    with pytest.raises(InvalidOption, match="Get one with the key usage digitalSignature"):
        check_signing_certificate(mute.certificate, check_private_key(mute.private, password=None))
    with pytest.raises(InvalidOption, match="holds no certificate in PEM form"):
        check_certificates(other.public)


def test_a_certificate_tells_whose_it_is(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    first, second = check_certificates(write_chain(tmp_path).certificate)

    assert names_in(first.public_bytes(Encoding.DER)) == ("CN=Ada", {"Ada", "ada@example.org"})
    assert names_in(second.public_bytes(Encoding.DER)) == ("CN=Example labs", {"Example labs"})
