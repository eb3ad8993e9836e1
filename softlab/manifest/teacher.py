"""What a manifest says about the teacher."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from softlab.manifest.value_types import Count, Fingerprint, Record


class ImportedRecord(Record, frozen=True, kw_only=True):
    """What is known of a teacher that ran elsewhere, and whose predictions were imported."""

    kind: Literal["logits", "log_probabilities", "probabilities", "votes", "values"]
    """What its numbers were."""

    file: Fingerprint
    """BLAKE3 of the file, or of all that was given in Python."""

    is_top_k: bool
    """Whether the file held some classes of each row, and not all of them."""


class TeacherRecord(Record, frozen=True, kw_only=True):
    model: str
    arguments: dict[str, Any]
    weights_fingerprint: Fingerprint
    num_parameters: Count
    precision: str
    """The dtype of the forward pass: float32, or that of autocast."""

    imported: ImportedRecord | UnsetType = UNSET
    """Of a teacher that softlab didn't run; `weights_fingerprint` is then the hash of its predictions."""

    @property
    def in_words(self) -> str:
        """`1,234 parameters, weights 0123456789ab, float32`; of an imported one what is known of it."""
        known_by = self.weights_fingerprint[:12]
        if isinstance(self.imported, UnsetType):
            return f"{self.num_parameters:,} parameters, weights {known_by}, {self.precision}"
        of_some = " of the likeliest classes" if self.imported.is_top_k else ""
        return f"{self.imported.kind.replace('_', '-')}{of_some} that were imported, file {known_by}"
