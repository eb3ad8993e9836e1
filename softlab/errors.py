"""Everything that a user can cause, as one tree; a message says where, what was found, what was expected, what to do.

    SoftlabError
    ├── InvalidOption          an option, a recipe key, or a combination of them
    ├── SourceError            the data: no samples, no such columns, an unknown class
    │   └── UnreadableSample   one item that can't be read or decoded
    ├── ModelError             no such model or layer, arguments or weights that don't fit
    ├── TeacherError           the teacher's output can't be stored (NaN, wrong shape)
    ├── StoreError             a store on disk
    │   ├── NotAStore          no manifest and no dump under way, or a manifest that isn't valid
    │   ├── UnfinishedStore    a dump under way or interrupted
    │   ├── UnsupportedStore   written by a newer softlab
    │   ├── DamagedStore       bytes on disk differ from what the manifest records
    │   ├── StoreExists        something else is already at the place to write to
    │   ├── StoreBusy          another process is writing this store
    │   └── StoreWriteFailed   the disk refused (full, read-only)
    ├── RemoteError            a server, bucket or hub
    │   ├── ObjectMissing      nothing is there: no such object, bucket, or published version
    │   ├── AccessDenied       credentials are missing, wrong or expired, or don't allow it
    │   ├── RemoteFailed       it can't be reached, fails again and again, or answers what can't be
    │   └── VersionTaken       something else is published under this name and version
    ├── NotTrusted             a signature is missing or wrong where one is required
    ├── StoreMismatch          a store and a source, a store and a student, or two runs that don't belong together
    └── TrainingFailed         a student's loss is not finite

Warnings, not errors: `InterpolatedTail`, when a loss asks for a temperature that the store doesn't hold, `SlowReads`,
`RandomWeights`, when a teacher that is dumped has none of its own, `UnseenWeights`, when it has some that softlab can't
see, `PublishedInput`, which tells how a named model was published to take its images, `DoubtfulLayout`, when a layer's
output may have its channels last,
`RedoneInFloat32`, when rows overflowed under autocast and were run again, `GoesOnDifferently`, when a dump goes on with
other options than it was begun with, `OtherNumerics`, when it goes on with a teacher that rounds differently,
`EpochNotSet`, when a loop of a user's own shows one view of several,
`DamagedCheckpoint`, when a run goes on from the one before, `DamagedShards`, when a dump computes some anew,
`TrackerFailed`, when live curves end before their run,
`OddSource`, when files of a data set were left out, or samples are there twice, `OddLabels`, when hard targets
aren't those of the teacher, `SilentRows`, when it says nothing about some samples, `LittleMass`, when most of the
teacher's probability isn't stored, `LossyLabels`, when a loss looks at what a store left out or rounded,
`ChangedCache`, when somebody else wrote rows into the cache, `OddPredictions`, when imported ones tell less than they
seem to, and `UsersCode`, when a model or a modality is code that is not installed. All are a `SoftlabWarning`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches


class SoftlabError(Exception):
    """Base of all errors that a user can cause."""


class InvalidOption(SoftlabError):
    """An option or recipe key is unknown, has a wrong value, or contradicts another."""


class SourceError(SoftlabError):
    """A data set can't be used as it is."""


class UnreadableSample(SourceError):
    """One sample can't be read or decoded."""


class ModelError(SoftlabError):
    """A model can't be built, or its weights or layers are not what was asked for."""


class TeacherError(SoftlabError):
    """The teacher gave something that can't be stored."""


class StoreError(SoftlabError):
    """A store can't be read or written."""


class NotAStore(StoreError):
    """There is no store here, or its manifest is not valid."""


class UnfinishedStore(StoreError):
    """A dump into this folder has not been finished."""


class UnsupportedStore(StoreError):
    """The store was written in a format version that this softlab doesn't know."""


class DamagedStore(StoreError):
    """Files of the store are missing or differ from what the manifest records."""


class StoreExists(StoreError):
    """The place to write to already holds something else."""


class StoreBusy(StoreError):
    """Another process is writing this store."""


class StoreWriteFailed(StoreError):
    """The disk refused a write."""


class RemoteError(SoftlabError):
    """A server, bucket or hub doesn't give or take what it was asked to."""


class ObjectMissing(RemoteError):
    """Nothing is there."""


class AccessDenied(RemoteError):
    """Credentials are missing, wrong or expired, or don't allow it."""


class RemoteFailed(RemoteError):
    """It can't be reached, fails again and again, or answers what can't be."""


class VersionTaken(RemoteError):
    """Something else is published under this name and version."""


class NotTrusted(SoftlabError):
    """A signature is missing or wrong where one is required."""


class StoreMismatch(SoftlabError):
    """Two things that were not made for each other were combined."""


class TrainingFailed(SoftlabError):
    """A student can't be trained further."""


class SoftlabWarning(UserWarning):
    """What a user should know, though it works."""


class InterpolatedTail(SoftlabWarning):
    """A temperature was asked for that the store doesn't hold; its tail was interpolated."""


class SlowReads(SoftlabWarning):
    """A store is read in a way that is many times slower than it need be."""


class RandomWeights(SoftlabWarning):
    """A teacher was given no weights, so that its labels teach nothing."""


class PublishedInput(SoftlabWarning):
    """A model takes its images as it was published, because nothing else was said; or not as it was published."""


class DoubtfulLayout(SoftlabWarning):
    """A layer's output is read as channels first, and looks as if they were last."""


class RedoneInFloat32(SoftlabWarning):
    """Rows of a teacher overflowed in half precision, and were run again in float32."""


class GoesOnDifferently(SoftlabWarning):
    """A dump goes on, or is finished already, with other options than it was begun with; nothing of it is wrong."""


class UnseenWeights(SoftlabWarning):
    """A teacher computes with numbers that no hash of its module covers."""


class OtherNumerics(SoftlabWarning):
    """A teacher gives nearly, but not quite, what it gave when its dump was begun."""


class EpochNotSet(SoftlabWarning):
    """A store has several views, and nobody says which epoch it is, so that all epochs show the same one."""


class DamagedCheckpoint(SoftlabWarning):
    """The last checkpoint of a run is not what was written, so that it goes on from the one before."""


class DamagedShards(SoftlabWarning):
    """Finished shards of a dump under way are not what was written, and are computed anew."""


class TrackerFailed(SoftlabWarning):
    """Live curves can't be written any longer; the run goes on without them."""


class OddSource(SoftlabWarning):
    """A data set isn't quite what its path lets expect: something was left out, or is there twice."""


class OddLabels(SoftlabWarning):
    """Hard targets and a teacher's labels count their classes differently."""


class OddPredictions(SoftlabWarning):
    """Predictions that are imported tell less than they seem to."""


class ChangedCache(SoftlabWarning):
    """Decoded rows on this machine are not those of their store, though nothing had damaged them."""


class LittleMass(SoftlabWarning):
    """The classes that are stored have little of the teacher's probability at the training temperature."""


class UsersCode(SoftlabWarning):
    """A model or a modality is code from outside the packages of this environment."""


class SilentRows(SoftlabWarning):
    """A teacher says nothing about some samples: all that is kept of a row is the minimum of masked classes."""


class LossyLabels(SoftlabWarning):
    """A loss looks at logits that a store left out, or could not hold within its rounding."""


@contextmanager
def extra_needed(extra: str, problem: str) -> Iterator[None]:
    """Raises InvalidOption with the extra that has a package, where an import in its block fails; `problem` says what
    needs which package."""
    try:
        yield
    except ImportError as error:
        raise InvalidOption(f"{problem}. Install it: pip install 'softlab[{extra}]'") from error


def check_option(is_right: bool, name: str, found: object, expected: str) -> None:
    """Raises InvalidOption for the option of this dotted name unless its value is right."""
    if not is_right:
        raise InvalidOption(f"{name} = {found}: expected {expected}. Change `{name}`.")


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: up to 3 near ones, or the first 5 known ones where none is near."""
    known = list(known)
    folded = {each.casefold(): each for each in known}
    near = [folded[match] for match in get_close_matches(name.casefold(), folded, n=3)]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    more = ", .." if len(known) > 5 else ""
    return f"Known: {', '.join(known[:5]) or 'none'}{more}."


def readable(path: object) -> str:
    """A path as any output and any file takes it: bytes of it that are no UTF-8 become such as `\\xff`."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """With a question mark for each sign that isn't printed but obeyed."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def first_few(values: Sequence[object], *, count: int = 3) -> str:
    """Some things in the middle of a message, such as keys: the first ones, and how many more there are."""
    more = f" and {len(values) - count:,} more" if len(values) > count else ""
    return ", ".join(repr(value) for value in values[:count]) + more
