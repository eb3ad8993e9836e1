"""Make and check signatures in the OpenSSF Model Signing format. Only this file knows the library for it.

The format signs folders. So a folder is made of the few files that vouch for a store, under the names that they have
beside its manifest. Any other tool for this format can then check a signature too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from softlab.disk import write_whole
from softlab.errors import NotTrusted, RemoteFailed, extra_needed
from softlab.sharing.signing.bundle import SignatureBundle, decode_bundle
from softlab.sharing.signing.keys import (
    check_certificates,
    check_private_key,
    check_public_key,
    check_signing_certificate,
    names_in,
    public_pem,
    read_password,
)
from softlab.sharing.signing.options import SignerOptions, SigningOptions

DO_NOT_USE = "Don't use the store; ask its publisher who signs."


def sign_files(files: Mapping[str, bytes], options: SigningOptions) -> bytes:
    """A signature of exactly these files. Raises InvalidOption for keys that won't do, RemoteFailed where Sigstore
    can't be reached."""
    signing, _, hashing = _library()
    config = signing.Config().set_hashing_config(hashing.Config())
    if options.key is not None:
        _use_key(config, options, options.key)
    with _folder_of(files) as (folder, signature):
        if options.sigstore:
            with _sigstore():
                config.use_sigstore_signer(use_ambient_credentials=True).sign(folder, signature)
        else:
            config.sign(folder, signature)
        return signature.read_bytes()


def check_signature(data: bytes, files: Mapping[str, bytes], *, signer: SignerOptions, where: str) -> str:
    """Who signed exactly these files, as text for a person. Raises NotTrusted unless it is the signer, InvalidOption
    for a key or certificate that won't do, and RemoteFailed where Sigstore can't be reached."""
    _, verifying, hashing = _library()
    config = _trusting(verifying.Config().set_hashing_config(hashing.Config()), signer)
    bundle = decode_bundle(data, where=where)
    with _folder_of(files) as (folder, signature):
        signature.write_bytes(data)
        try:
            config.verify(folder, signature)
            differing = bundle.differing(files)  # the library leaves some names out of what it compares
        except Exception as error:  # whatever it stumbles over, it has not vouched for the files
            raise NotTrusted(f"{where}: {_fault(bundle, files, signer)}") from error
    if differing:
        raise NotTrusted(f"{where}: {_of_other_bytes(differing)}")
    return name_signer(bundle, signer, where=where)


def is_signed_with(options: SigningOptions, data: bytes, files: Mapping[str, bytes], *, where: str) -> bool:
    """Whether a signature of exactly these files was made with this very key. Of certificates and Sigstore it can't be
    told."""
    if options.key is None or options.certificate is not None:
        return False
    with TemporaryDirectory(prefix="softlab-") as folder:
        public = Path(folder) / "key.pub"
        public.write_bytes(public_pem(options.key, password=read_password(options.key_password_env)))
        try:
            check_signature(data, files, signer=SignerOptions(key=public), where=where)
        except NotTrusted:
            return False
        return True


def _library() -> tuple[Any, Any, Any]:
    with extra_needed("sign", "signatures need model-signing"):
        from model_signing import hashing, signing, verifying
    return signing, verifying, hashing


def _use_key(config: Any, options: SigningOptions, path: Path) -> None:
    password = read_password(options.key_password_env)
    key = check_private_key(path, password=password)
    if options.certificate is None:
        config.use_elliptic_key_signer(private_key=path, password=password)
        return
    check_signing_certificate(options.certificate, key)
    config.use_certificate_signer(
        private_key=path, signing_certificate=options.certificate, certificate_chain=[options.certificate]
    )


def _trusting(config: Any, signer: SignerOptions) -> Any:
    if signer.key is not None:
        check_public_key(signer.key)
        return config.use_elliptic_key_verifier(public_key=signer.key)
    if signer.certificate is not None:
        check_certificates(signer.certificate)
        return config.use_certificate_verifier(certificate_chain=[signer.certificate])
    with _sigstore():
        return config.use_sigstore_verifier(identity=signer.identity, oidc_issuer=signer.issuer)


@contextmanager
def _sigstore() -> Iterator[None]:
    """Its own error message is not shown: it may contain a token."""
    try:
        yield
    except Exception as error:
        raise RemoteFailed(
            f"Sigstore can't be reached, or refuses ({type(error).__name__}). Try again where there is a network and a "
            f"login, or use a key."
        ) from None


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[tuple[Path, Path]]:
    """A folder of just these files that nobody else can reach, and a place for the signature beside it."""
    with TemporaryDirectory(prefix="softlab-") as name:
        folder = Path(name) / "store"
        write_whole(folder, files)
        yield folder, Path(name) / "signature.json"


def _fault(bundle: SignatureBundle, files: Mapping[str, bytes], signer: SignerOptions) -> str:
    """Why a signature is not trusted, as far as its file shows."""
    try:
        differing = bundle.differing(files)
    except (LookupError, TypeError, ValueError):
        differing = []
    if differing:
        return _of_other_bytes(differing)
    return f"the signature was not made with {signer}, or is damaged. {DO_NOT_USE}"


def _of_other_bytes(names: list[str]) -> str:
    return (
        f"the signature is of other bytes ({', '.join(names)}): the store was changed since, or the signature is of "
        f"another version. {DO_NOT_USE}"
    )


def name_signer(bundle: SignatureBundle, signer: SignerOptions, *, where: str) -> str:
    """The signer as text, of a bundle that was checked. Raises NotTrusted if it isn't the one to trust.

    The library leaves this open. For a certificate it checks only that it comes from the root, not whose it is. And the
    part of a bundle that names its key or certificate is not signed, so anyone may have changed it.
    """
    key_hash, certificate = bundle.key_hash(), bundle.certificate()
    if (signer.key is not None and key_hash is None) or (signer.certificate is not None and certificate is None):
        raise NotTrusted(f"{where}: names another kind of signer than {signer}. {DO_NOT_USE}")
    if key_hash is not None:
        return f"key {key_hash[:16]}"
    if certificate is None:
        return str(signer)
    subject, names = names_in(certificate)
    if signer.identity is not None and signer.identity not in names:
        raise NotTrusted(f"{where}: was signed by {', '.join(sorted(names))}, not by {signer.identity}. {DO_NOT_USE}")
    return subject
