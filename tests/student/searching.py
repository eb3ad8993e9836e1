"""Short searches on pictures in memory: a pass over the data is nine steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from softlab.student.options import TrainOptions
from softlab.student.search import SearchOptions, search
from softlab.student.trials import Trial
from softlab.student.validation import Validation
from tests.student.pictures import make_options, make_student, pictures

LOSSES = ("kl", "reverse_kl", "mse")


def find(
    stores: Store | list[Store],
    out: Path,
    *,
    make: Callable[[], nn.Module] = make_student,
    options: TrainOptions | None = None,
    augment: ViewRecipe | None = None,
    valid: Validation | None = None,
    on_progress: OnProgress | None = None,
    **what: Any,
) -> list[Trial]:
    """Two passes of two trials, validated on the pictures themselves."""
    given: dict[str, Any] = {"trials": 4, "together": 2, "loss": LOSSES} | what
    return search(
        make,
        pictures(),
        stores if isinstance(stores, list) else [stores],
        options or make_options(),
        SearchOptions(**given),
        valid=valid or Validation(source=pictures()),
        augment=augment,
        out=out,
        on_progress=on_progress,
    )
