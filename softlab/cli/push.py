"""`softlab push`: publish a store under a name and a version."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.progress import rows_bar
from softlab.cli.tables import print_facts
from softlab.errors import InvalidOption

if TYPE_CHECKING:
    from softlab.sharing.publish.push import Pushed

LICENCE_QUESTION = "Licence of the soft labels (an SPDX identifier such as CC-BY-4.0, or words)"
TERMS_QUESTION = "What the teacher's own licence says about its outputs (nothing: leave it empty)"
LICENCE_MISSING = (
    "--licence is missing: that of the soft labels, an SPDX identifier such as CC-BY-4.0, or words. Give --licence "
    "TEXT."
)
TERMS_MISSING = (
    "--terms is missing: what the teacher's own licence says about its outputs. Give --terms TEXT, "
    'or --terms "" if it says nothing.'
)


def push(
    store: Annotated[str, typer.Argument(help="Folder of the store, or its address.", show_default=False)],
    place: Annotated[
        str,
        typer.Argument(
            help="Where to publish it: s3://BUCKET/FOLDER/NAME, also gs:// and az://, or FOLDER/NAME. NAME@3 makes it "
            "version 3; else it is the next one.",
            show_default=False,
        ),
    ],
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of the soft labels: an SPDX identifier, or words. Asked for in a terminal."),
    ] = None,
    terms: Annotated[
        str | None,
        typer.Option(
            help='What the teacher\'s own licence says about its outputs; "" for nothing. Asked for likewise.'
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag that is moved to this version. Repeatable.")] = None,
    latest: Annotated[bool, typer.Option(help="Whether the tag `latest` is moved too; it only moves forwards.")] = True,
    jobs: Annotated[int, typer.Option(help="Files that are uploaded at once.")] = 16,
    check: Annotated[
        bool,
        typer.Option(
            help="Read and hash what is there already, and upload what is damaged anew; with the store, licence and "
            "terms of NAME@3 it mends version 3."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was published as JSON.")] = False,
) -> None:
    """Publish a store under a name and a version, with its card and a catalogue of all that is published there.

    What is published never changes. An interrupted push goes on when the same command is run again.
    """
    from softlab.sharing.catalogue.versions import LATEST  # half of the start, which `--help` does without
    from softlab.sharing.publish.push import PushOptions
    from softlab.sharing.publish.push import push as publish

    options = PushOptions(
        licence=_asked(licence, question=LICENCE_QUESTION, missing=LICENCE_MISSING),
        terms=_asked(terms, question=TERMS_QUESTION, missing=TERMS_MISSING, default=""),
        tags=((LATEST,) if latest else ()) + tuple(tag or ()),
        jobs=jobs,
        check=check,
    )
    with rows_bar(unit="bytes") as bar:
        pushed = publish(store, place, options=options, on_progress=lambda done, total: bar(done, "", total))
    print(json.dumps(asdict(pushed), indent=1)) if as_json else print_facts(_facts(pushed))


def _asked(given: str | None, *, question: str, missing: str, default: str | None = None) -> str:
    if given is not None:
        return given
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidOption(missing)
    answer: str = typer.prompt(question, default=default, show_default=False, err=True)
    return answer


def _facts(pushed: "Pushed") -> dict[str, str]:
    return {
        "published": pushed.address,
        "digest": pushed.digest,
        "uploaded": f"{format_count(pushed.files_uploaded, 'file')}, {format_bytes(pushed.bytes_uploaded)}",
        "copied there": f"{format_count(pushed.files_copied, 'file')} of another version",
        "there already": format_count(pushed.files_skipped, "file"),
    }
