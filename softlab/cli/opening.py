"""How commands open a source, with a bar for looking for unreadable samples; and what they say a store may be."""

from softlab.cli.progress import rows_bar
from softlab.modalities.opening import open_source
from softlab.ranks import is_first_rank
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source

STORE_HELP = "Folder or URL of the store, or NAME@VERSION below where it is published."


def open_with_bar(options: SourceOptions) -> Source:
    """As `open_source`; of several processes the first one shows the bar."""
    if not is_first_rank():
        return open_source(options)
    with rows_bar(unit="samples") as bar:
        return open_source(options, on_scan=lambda done, total: bar(done, "looking for unreadable samples", total))
