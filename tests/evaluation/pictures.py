"""A model and a teacher that are measured on pictures in memory, and what they answer by plain forward passes."""

# Shape letters: N samples, C classes.

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store, open_store
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, forward_of, make_options, make_teacher

COUNT = 300
"""More than one batch."""

TARGETS_N = np.random.default_rng(0).integers(-1, NUM_CLASSES, COUNT)
PICTURES = Pictures(count=COUNT, targets_N=TARGETS_N)
STUDENT, TEACHER = make_teacher(seed=1).eval(), make_teacher(seed=0).eval()


def dense(module: nn.Module) -> Tensor:
    """Logits of every picture in float64."""
    return forward_of(module, PICTURES, make_options()).double()


def make_store(tmp_path: Path, *, k: int = NUM_CLASSES, temperature: tuple[float, ...] = (1.0, 4.0)) -> Store:
    options = make_options(k=k, coding="float32", temperature=temperature, shard_rows=None, batch_size=100)
    dump(tmp_path / "store", options, teacher=TEACHER, source=PICTURES)
    return open_store(tmp_path / "store")


def measure(
    store: Store | None = None, *, module: nn.Module = STUDENT, source: Pictures = PICTURES, per_class: bool = False
) -> Evaluation:
    options, device = EvaluateOptions(per_class=per_class), DeviceOptions(name="cpu")
    return evaluate_model(module, source, store=store, options=options, device=device)


def outputs_of(logits_BC: Tensor) -> Outputs:
    return Outputs(logits_BC=logits_BC, predicted_B=logits_BC.argmax(dim=1))


CPU = torch.device("cpu")
