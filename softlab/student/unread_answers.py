"""Answers that lie behind what students read of a text: they are no hard targets for these."""

import warnings

from softlab.errors import OddSource
from softlab.loading.loader import BatchLoader
from softlab.loading.order import spread_out
from softlab.modalities.modality import LOOKED_AT


def tell_unread_answers(loader: BatchLoader) -> None:
    """Looks at some samples, and warns with OddSource of each input that cuts answers off."""
    aligned = loader.aligned
    if aligned.answers is None:
        return
    count = min(LOOKED_AT, len(aligned.source))
    batch = loader.load_one(spread_out(len(aligned.source), count=count))
    assert batch.targets_B is not None, "answers are hard targets"
    known_B = (batch.targets_B.view(count, -1) >= 0).all(dim=1)
    for index, options in enumerate(aligned.inputs):
        read = batch.read_by(index).targets_B
        assert read is not None, "as those of the batch"
        unread = int((known_B & (read.view(count, -1) < 0).any(dim=1)).sum())
        if unread:
            warnings.warn(
                f"{aligned.source.name}: {unread:,} of {int(known_B.sum()):,} answers that were looked at lie behind "
                f"what students with this input read ({_length(options)}), and are left aside as hard targets. Raise "
                f"`input.max_length` or `input.max_words` where teacher and students can take more",
                OddSource,
                stacklevel=3,
            )


def _length(options: object) -> str:
    """`max_length = 384, max_words = 300`, as far as its modality has such options."""
    told = ((name, getattr(options, name, None)) for name in ("max_length", "max_words"))
    return ", ".join(f"{name} = {value}" for name, value in told if value is not None)
