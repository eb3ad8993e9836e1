"""How to sign, and whose signatures to trust."""

from dataclasses import dataclass
from pathlib import Path

from softlab.errors import InvalidOption
from softlab.sharing.signing.keys import read_pem


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningOptions:
    """How to sign: with a key, with a key and its certificate, or through Sigstore."""

    key: Path | None = None
    """PEM file of an elliptic-curve private key."""

    key_password_env: str | None = None
    """The environment variable that holds the key's password."""

    certificate: Path | None = None
    """PEM file of the key's certificate, and behind it those that lead to the root."""

    sigstore: bool = False
    """Sign as the person or pipeline that is logged in, through sigstore.dev."""

    def __post_init__(self) -> None:
        """Refuses what leaves open who signs."""
        if self.sigstore == (self.key is not None) or (self.sigstore and self.certificate is not None):
            raise InvalidOption(
                "sign with either --key or --sigstore. Give one of them; --certificate goes with --key."
            )
        if self.key_password_env is not None and (self.key is None or self.certificate is not None):
            raise InvalidOption(
                "--key-password-env goes with a --key alone: the format takes no encrypted keys of certificates. "
                "Leave it out."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerOptions:
    """Whom to trust: exactly one of a key, a certificate, or an identity that Sigstore vouches for."""

    key: Path | None = None
    """PEM file of a public key."""

    certificate: Path | None = None
    """PEM file of the root certificate that a signer's own must come from. It is judged at the time it was issued, as
    nothing proves when a signature was made: one that has expired since is still trusted."""

    identity: str | None = None
    """With a certificate: the signer's common name, or an alternative one. With Sigstore: an e-mail address, or the
    address of a pipeline."""

    issuer: str | None = None
    """With Sigstore: who logged the signer in, e.g. https://accounts.google.com."""

    def __post_init__(self) -> None:
        """Refuses what leaves open who is trusted."""
        if self.key is not None and (self.certificate, self.identity, self.issuer) != (None, None, None):
            raise InvalidOption("a public key says itself who is trusted. Leave `identity` and `issuer` out.")
        if self.certificate is not None and self.issuer is not None:
            raise InvalidOption("`issuer` is of Sigstore, and goes with no certificate. Leave it out.")
        if self.key is None and self.certificate is None and (self.identity is None or self.issuer is None):
            raise InvalidOption(
                "nobody is named whose signature is trusted. Give `signer` with a public key or root certificate; "
                "for Sigstore, `identity` and `issuer`."
            )

    def __str__(self) -> str:
        if self.key is not None:
            return f"the key {self.key}"
        if self.certificate is not None:
            return f"the certificate {self.certificate}" + (f" and {self.identity}" if self.identity else "")
        return f"{self.identity} by {self.issuer}"


def signer_from(pem: Path | None, *, identity: str | None = None, issuer: str | None = None) -> SignerOptions:
    """Whom to trust, by a PEM file with a public key or a certificate, or by an identity alone. Raises InvalidOption
    for another file."""
    if pem is None:
        return SignerOptions(identity=identity, issuer=issuer)
    if b"-BEGIN CERTIFICATE-" in read_pem(pem, what="a public key or a root certificate"):
        return SignerOptions(certificate=pem, identity=identity, issuer=issuer)
    return SignerOptions(key=pem, identity=identity, issuer=issuer)


def required_signer(
    pem: Path | None, *, identity: str | None = None, issuer: str | None = None, min_version: int | None = None
) -> SignerOptions | None:
    """Whose signature these ask for; None if none of them is given. Raises InvalidOption if they name nobody."""
    if (pem, identity, issuer, min_version) == (None, None, None, None):
        return None
    if pem is None and (identity is None or issuer is None):
        raise InvalidOption(
            "a name, issuer or version proves nothing without who must have signed. Give `require_signature` as well; "
            "for Sigstore, `identity` and `issuer`."
        )
    return signer_from(pem, identity=identity, issuer=issuer)
