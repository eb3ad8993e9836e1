"""`softlab sign`: sign a store, so that others can tell that it is the one that you published."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from softlab.cli.opening import STORE_HELP
from softlab.cli.progress import rows_bar
from softlab.sharing.signing.options import SigningOptions
from softlab.sharing.signing.sign import sign_store


def sign(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    key: Annotated[Path | None, typer.Option(help="PEM file of your private key (P-256, P-384, P-521).")] = None,
    key_password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the key's password.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of the key's certificate, and those between it and the root.")
    ] = None,
    sigstore: Annotated[bool, typer.Option("--sigstore", help="Sign through sigstore.dev, by login.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Don't hash every file of a folder first.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a signature there is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was signed as JSON.")] = False,
) -> None:
    """Sign the manifest of a store, hence every byte of it; of a published one also its name, version and licence."""
    options = SigningOptions(key=key, key_password_env=key_password_env, certificate=certificate, sigstore=sigstore)
    with rows_bar(unit="files") as bar:
        signed = sign_store(
            store,
            options=options,
            verify=not no_verify,
            replace=replace,
            on_file=lambda done, total: bar(done, "", total),
        )
    if as_json:
        print(json.dumps(asdict(signed), indent=1))
        return
    what = "" if signed.version is None else f", version {signed.version}"
    print(f"{store}: signed, digest {signed.digest}{what}")
    print(f"signature: {signed.signature}")
