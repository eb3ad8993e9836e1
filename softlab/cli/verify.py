"""`softlab verify`: check every file of a store against its manifest."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.messages import say_flags
from softlab.cli.opening import STORE_HELP
from softlab.cli.progress import rows_bar
from softlab.cli.say import say
from softlab.sharing.signing.options import signer_from
from softlab.sharing.signing.trust import Vouched, check_digest, check_trust
from softlab.store.verify import VerifyReport, verify_store

FLAGS = {"signer": "--signer", "identity": "--identity", "issuer": "--issuer", "min_version": "--min-version"}


def verify(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    signer: Annotated[
        Path | None, typer.Option(help="PEM file of the public key, or root certificate, of who must have signed.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Name in the signer's certificate; for Sigstore the login that signed.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="For Sigstore: who vouches for the login, a URL.")] = None,
    min_version: Annotated[int | None, typer.Option(help="Least version that the signature must be of.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove temporary files that a killed process left.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Hash every file of a store again; exit code 1 and a list if any is damaged, missing or foreign.

    With a signer its signature is checked first, and nothing is hashed unless that is right.
    """
    say_flags(FLAGS, FLAGS.keys())
    vouched = _check_signature(store, signer, identity=identity, issuer=issuer, min_version=min_version)
    with rows_bar(unit="files") as bar:
        report = verify_store(store, sweep=sweep, on_file=lambda done, total: bar(done, "", total))
    if vouched is not None:
        check_digest(report.digest, vouched.digest, where=store)
    if as_json:
        signed = {} if vouched is None else {"signed": asdict(vouched)}
        print(json.dumps(asdict(report) | {"intact": report.is_intact} | signed, indent=1))
    else:
        _print_report(store, report, vouched, is_swept=sweep)
    if not report.is_intact:
        raise typer.Exit(1)


def _check_signature(
    store: str, signer: Path | None, *, identity: str | None, issuer: str | None, min_version: int | None
) -> Vouched | None:
    """None where nobody's signature was asked for."""
    if (signer, identity, issuer, min_version) == (None, None, None, None):
        return None
    return check_trust(store, signer=signer_from(signer, identity=identity, issuer=issuer), min_version=min_version)


def _print_report(store: str, report: VerifyReport, vouched: Vouched | None, *, is_swept: bool) -> None:
    if vouched is not None:
        version = "" if vouched.version is None else f", as {vouched.name}@{vouched.version}"
        say(f"signed by {vouched.signer}{version}")
    for state in ["damaged", "missing", "foreign"]:
        for path in getattr(report, state):
            say(f"{state}: {path}")
    state = "intact" if report.is_intact else "NOT intact"
    say(f"{store}: {state}, {report.num_files:,} files, {format_bytes(report.num_bytes)}, digest {report.digest}")
    if report.temporary:
        files = format_count(len(report.temporary), "temporary file")
        where = f"`softlab verify {store} --sweep`"
        say(f"{files} of softlab's own, left by a process that was killed: " + ("removed" if is_swept else where))
    if not report.is_listed:
        say("foreign files were not looked for: what this place holds can't be listed")
    if report.is_adding_views:
        say("views are being added; the same `softlab dump-teacher` command goes on with them")
