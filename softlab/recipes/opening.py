"""Opens what a recipe names: stores, signed ones where that is asked for, and the source to validate on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from softlab.errors import InvalidOption
from softlab.loading.stored_source import stored_source
from softlab.manifest import InputRecord
from softlab.modalities.modality import InputOptions, tells_relevance, tells_targets
from softlab.modalities.opening import open_source
from softlab.sharing.signing.options import required_signer
from softlab.sharing.signing.trust import open_trusted
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.sources.subset import first
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.validation import Validation


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidOptions(SourceOptions):
    """A further validation source."""

    store: str | tuple[str, ...] | None = None
    """The teacher's output for it, of several teachers of a student's heads a list; without it only what needs no
    teacher is measured."""


STORE = "store:"
"""What a path begins with that names a store."""

OnScan = Callable[[int, int], None]
"""Called with the samples that were looked at, and how many there are, while unreadable ones are looked for."""


def open_signed(
    store: str,
    *,
    require_signature: Path | None,
    identity: str | None,
    issuer: str | None,
    min_version: int | None,
    cache: CacheOptions,
) -> Store:
    """The store, once the required signature is found to be right; without a required one, any store.

    Raises InvalidOption where it is not clear whose signature is required, NotTrusted where it is missing or wrong.
    """
    signer = required_signer(require_signature, identity=identity, issuer=issuer, min_version=min_version)
    if signer is None:
        return open_store(store, cache=cache)
    return open_trusted(store, signer=signer, min_version=min_version, cache=cache)


def choose_output(store: Store, output: str | None) -> Store:
    """The store with the soft labels of this output; of the first one for None. Raises InvalidOption as
    `Store.with_labels`."""
    return store if output is None else store.with_labels(output)


def choose_outputs(stores: Sequence[Store], output: str | None) -> list[Store]:
    """The same of the stores of several teachers, which are combined. Raises InvalidOption too for an output that only
    some of them hold."""
    lacking = [store for store in stores if output not in [each.name for each in store.manifest.classes]]
    if output is not None and 0 < len(lacking) < len(stores):
        holder = next(store for store in stores if store not in lacking)
        held = ", ".join(each.name for each in lacking[0].manifest.outputs)
        raise InvalidOption(
            f"{lacking[0].name}: has no output {output!r} of kind classes (it has: {held}), but {holder.name} has. "
            f"Teachers are combined over one output: say one that all of them hold as `output`, leave that store out, "
            f"or learn {output} with a head of its own, as `student.NAME.head.{output}`."
        )
    return [choose_output(store, output) for store in stores]


def open_samples(
    source: SourceOptions,
    *,
    modality: str,
    inputs: Sequence[InputOptions],
    seen: Sequence[InputRecord] = (),
    on_scan: OnScan | None = None,
) -> Source:
    """The data set that a recipe names; of `store:STORE` the tokens that a store holds of its samples. Raises as
    `open_source`, and as `stored_source`."""
    if not source.path.startswith(STORE):
        return open_source(source, modality=modality, inputs=inputs, seen=seen, on_scan=on_scan)
    plain = SourceOptions(path=source.path, limit=source.limit)
    if any(getattr(source, each.name) != getattr(plain, each.name) for each in fields(SourceOptions)):
        raise InvalidOption(
            f"{source.path}: a store tells all but `source.limit` by itself. Leave the other options of `source` out."
        )
    opened = stored_source(open_store(source.path.removeprefix(STORE)))
    return opened if source.limit is None else first(opened, source.limit)


def open_validation(
    source: SourceOptions | None,
    *,
    inputs: Sequence[InputOptions],
    seen: Sequence[InputRecord] = (),
    store: Store | None = None,
    on_scan: OnScan | None = None,
) -> Validation | None:
    """None where there is no source to validate on. `inputs` are those of the models, and `seen` is how the teacher of
    their stores saw its samples."""
    if source is None:
        return None
    seen = seen if store is None else store.manifest.seen
    opened = open_samples(source, modality=inputs[0].modality, inputs=inputs, seen=seen, on_scan=on_scan)
    return Validation(
        source=opened,
        store=store,
        has_relevance=any(map(tells_relevance, inputs)),
        has_own_targets=any(map(tells_targets, inputs)),
    )
