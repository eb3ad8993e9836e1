"""What is written down of a dump under way. Each such document holds its own hash, as a manifest does, so that one in
which a bit has flipped is found before anything is made of it."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from softlab.manifest.document import has_own_hash, is_as_written
from softlab.manifest.records import StorePlan
from softlab.manifest.storage import FileRecord
from softlab.manifest.strict_json import decode_strictly
from softlab.manifest.value_types import Record

OwnHash = Annotated[str, Meta(max_length=64)]
"""Of the bytes of a document, as `Manifest.self_digest`: empty in what they say."""

Document = TypeVar("Document", bound=Record)


class BegunPlan(StorePlan, frozen=True, kw_only=True):
    """The plan of a dump that was begun."""

    samples_file: FileRecord | None = None
    """What is known of its samples; None where nothing of them was written down."""

    self_digest: OwnHash = msgspec.field(name="self", default="")

    @property
    def plan(self) -> StorePlan:
        return StorePlan(**{name: getattr(self, name) for name in StorePlan.__struct_fields__})


def begin(plan: StorePlan, *, samples_file: FileRecord | None = None) -> BegunPlan:
    """The document of a plan."""
    values = {name: getattr(plan, name) for name in StorePlan.__struct_fields__}
    return BegunPlan(**values, samples_file=samples_file)


def decode_begun(data: bytes) -> BegunPlan:
    """Raises ValueError as `decode_under_way`; a plan that an older softlab wrote has no hash."""
    found = decode_strictly(data, BegunPlan)
    return found if not (found.self_digest or has_own_hash(data)) else decode_under_way(data, BegunPlan)


def decode_under_way(data: bytes, kind: type[Document]) -> Document:
    """Raises ValueError for a document that isn't as it was written."""
    found = decode_strictly(data, kind)
    if not is_as_written(data):
        raise ValueError("its bytes don't have the hash that it holds of itself")
    return msgspec.structs.replace(found, self_digest="")
