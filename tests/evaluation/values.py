"""A store of embeddings of the pictures, and models that give such."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store, open_store
from tests.evaluation.pictures import PICTURES, STUDENT, TEACHER
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher

NARROW = make_teacher(seed=2, num_classes=7).eval()
"""Another width than that of the teacher."""


def make_values_store(out: Path, *, teacher: nn.Module = TEACHER, **options: Any) -> Store:
    """The teacher's 20 numbers of each picture, as they are."""
    values = {"output": ("embedding:values",), "values_coding": "float32", "batch_size": 100, "shard_rows": None}
    dump(out, make_options(**(values | options)), teacher=teacher, source=PICTURES)
    return open_store(out)


def measure_values(
    store: Store | None, *, module: nn.Module = STUDENT, source: Pictures = PICTURES, batch_size: int = 256, **how: Any
) -> Evaluation:
    options, device = EvaluateOptions(batch_size=batch_size, **how), DeviceOptions(name="cpu")
    return evaluate_model(module, source, store=store, output="embedding", options=options, device=device)


def neighbours_of(vectors: Tensor, row: int, *, k: int) -> list[int]:
    """By cosine, the nearest first."""
    cosines = functional.cosine_similarity(vectors[row], vectors, dim=1).tolist()
    return sorted(set(range(len(vectors))) - {row}, key=lambda other: -cosines[other])[:k]
