"""`softlab pull`: bring a store, or a part of it, to a disk."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.messages import say_flags
from softlab.cli.opening import STORE_HELP
from softlab.cli.progress import rows_bar
from softlab.cli.tables import print_facts

if TYPE_CHECKING:
    from softlab.sharing.fetch.pull import Pulled
    from softlab.sharing.signing.trust import Vouched

NO_FEATURES = "none"
FLAGS = {
    "require_signature": "--require-signature",
    "identity": "--identity",
    "issuer": "--issuer",
    "min_version": "--min-version",
}


def pull(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the copy.", show_default=False)],
    views: Annotated[str | None, typer.Option(help="Only these views: one, or a run of them as in 0-3.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Only these features, with commas between their names; or none.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Only the samples with these keys: a text file with one a line.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Files that are fetched at once.")] = 16,
    require_signature: Annotated[
        Path | None, typer.Option(help="Only what this signer signed: PEM file of a public key or root certificate.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Name in the signer's certificate; for Sigstore the login that must have signed.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="For Sigstore: who vouches for the login, a URL.")] = None,
    min_version: Annotated[int | None, typer.Option(help="Least version that the signature must be of.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there now as JSON.")] = False,
) -> None:
    """Copy a store to a disk: the whole of it, with the same digest, or some of its views, features and samples.

    An interrupted pull goes on when the same command is run again; files that were damaged since are fetched anew.
    """
    from softlab.sharing.fetch.pull import PullOptions  # half of the start, which `--help` does without
    from softlab.sharing.fetch.pull import pull as fetch
    from softlab.sharing.signing.options import required_signer
    from softlab.sharing.signing.trust import check_trust

    say_flags(FLAGS, FLAGS.keys())
    required = required_signer(require_signature, identity=identity, issuer=issuer, min_version=min_version)
    vouched = None if required is None else check_trust(store, signer=required, min_version=min_version)
    digest = None if vouched is None else vouched.digest
    options = PullOptions(views=views, features=_names(features), samples=samples, jobs=jobs, digest=digest)
    with rows_bar(unit="bytes") as bar:
        pulled = fetch(store, out, options, on_bytes=lambda done, total: bar(done, "", total))
    print(json.dumps(_values(pulled, vouched), indent=1)) if as_json else print_facts(_facts(pulled, vouched))


def _names(features: str | None) -> tuple[str, ...] | None:
    if features is None:
        return None
    return () if features == NO_FEATURES else tuple(name.strip() for name in features.split(","))


def _facts(pulled: "Pulled", vouched: "Vouched | None") -> dict[str, str]:
    manifest, version = pulled.manifest, pulled.version
    whole, fetched = pulled.bytes_of_whole, pulled.bytes_fetched
    facts = {
        "store": str(pulled.out),
        "rows": f"{manifest.num_rows:,}: {format_count(manifest.views.num_views, 'view')} of "
        f"{format_count(manifest.source.num_samples, 'sample')}",
        "features": ", ".join(output.name for output in manifest.values) or "none",
        "fetched": f"{format_bytes(fetched)}, {fetched / whole:.1%} of the whole store's {format_bytes(whole)}",
        "digest": pulled.digest,
    }
    if not pulled.is_whole:
        facts["part of"] = str(manifest.parent)
    if vouched is not None:
        facts["signed by"] = vouched.signer + ("" if pulled.is_whole else ": the whole, not this part of it")
    if version is not None:
        facts |= {"from": f"{version.name}@{version.version}", "licence": version.licence}
    return facts


def _values(pulled: "Pulled", vouched: "Vouched | None") -> dict[str, object]:
    manifest, version = pulled.manifest, pulled.version
    return {
        "store": str(pulled.out),
        "from": None if version is None else f"{version.name}@{version.version}",
        "rows": manifest.num_rows,
        "views": manifest.views.num_views,
        "features": [output.name for output in manifest.values],
        "bytes_fetched": pulled.bytes_fetched,
        "bytes_of_whole": pulled.bytes_of_whole,
        "digest": pulled.digest,
        "part_of": None if pulled.is_whole else manifest.parent,
        "licence": None if version is None else version.licence,
        "signed_by": None if vouched is None else vouched.signer,
    }
