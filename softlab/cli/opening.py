"""Open a source with a bar for the one thing that can take long: looking for unreadable samples."""

from softlab.cli.progress import rows_bar
from softlab.ranks import is_first_rank
from softlab.sources.open import open_source
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source


def open_with_bar(options: SourceOptions) -> Source:
    """As `open_source`; of several processes the first one shows the bar."""
    if not is_first_rank():
        return open_source(options)
    with rows_bar(unit="samples") as bar:
        return open_source(options, on_scan=lambda done, total: bar(done, "looking for unreadable samples", total))
