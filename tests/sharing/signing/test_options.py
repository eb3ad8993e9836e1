from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from softlab.sharing.signing.options import SignerOptions, SigningOptions, required_signer, signer_from
from tests.sharing.signing.key_files import write_chain, write_key

PEM = Path("some.pem")


@pytest.mark.parametrize(
    ("options", "next_step"),
    [
        ({}, "Give one"),
        ({"key": PEM, "sigstore": True}, "Give one"),
        ({"certificate": PEM}, "--certificate goes with --key"),
        ({"certificate": PEM, "sigstore": True}, "--certificate goes with --key"),
        ({"sigstore": True, "key_password_env": "PASSWORD"}, "Leave it out"),
        ({"key": PEM, "certificate": PEM, "key_password_env": "PASSWORD"}, "no encrypted keys of certificates"),
    ],
)
def test_how_to_sign_must_be_said_in_one_way(options: dict[str, object], next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        SigningOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "next_step"),
    [
        ({}, "Give `signer`"),
        ({"identity": "ada@example.org"}, "for Sigstore, `identity` and `issuer`"),
        ({"issuer": "https://accounts.example.org"}, "for Sigstore, `identity` and `issuer`"),
        ({"key": PEM, "certificate": PEM}, "says itself who is trusted"),
        ({"key": PEM, "identity": "ada@example.org"}, "Leave `identity` and `issuer` out"),
        ({"certificate": PEM, "issuer": "https://accounts.example.org"}, "goes with no certificate. Leave it out"),
    ],
)
def test_who_is_trusted_must_be_said_in_one_way(options: dict[str, object], next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        SignerOptions(**options)  # type: ignore[arg-type]


def test_a_pem_file_tells_itself_whether_it_is_a_key_or_a_certificate(tmp_path: Path) -> None:
    key, root = write_key(tmp_path).public, write_chain(tmp_path).root

    assert signer_from(key) == SignerOptions(key=key)
    assert signer_from(root, identity="Ada") == SignerOptions(certificate=root, identity="Ada")
    with pytest.raises(InvalidOption, match="Give the PEM file of a public key or a root certificate"):
        signer_from(tmp_path)


def test_a_least_version_alone_requires_nothing_that_can_be_proved(tmp_path: Path) -> None:
    key = write_key(tmp_path).public

    assert required_signer(None, min_version=None) is None
    assert required_signer(key, min_version=3) == SignerOptions(key=key)
    with pytest.raises(InvalidOption, match=r"Give `require_signature` as well"):
        required_signer(None, min_version=3)


def test_a_person_is_required_with_a_certificate_or_through_sigstore(tmp_path: Path) -> None:
    root = write_chain(tmp_path).root
    login = {"identity": "ada@example.org", "issuer": "https://accounts.example.org"}

    assert required_signer(root, identity="Ada") == SignerOptions(certificate=root, identity="Ada")
    assert required_signer(None, **login) == SignerOptions(**login)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"identity": "Ada"}, {"issuer": "https://accounts.example.org"}])
def test_half_of_a_person_is_nobody_who_must_have_signed(given: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match=r"Give `require_signature` as well; for Sigstore, `identity` and `issuer`"):
        required_signer(None, **given)  # type: ignore[arg-type]


def test_a_trusted_signer_has_a_name_for_messages() -> None:
    sigstore = SignerOptions(identity="ada@example.org", issuer="https://accounts.example.org")

    assert str(SignerOptions(key=PEM)) == "the key some.pem"
    assert str(SignerOptions(certificate=PEM)) == "the certificate some.pem"
    assert str(SignerOptions(certificate=PEM, identity="Ada")) == "the certificate some.pem and Ada"
    assert str(sigstore) == "ada@example.org by https://accounts.example.org"
