"""How far the gradient of a reference student turns away from the full one where rows of a large vocabulary are stored.

Of one row a biased selection may be nearer to the full distribution than a sample is, but its error is the same in each
row, and adds up; that of a sample goes on average. So the gradient is summed over all rows that are given before it is
compared: some thousand are needed to see what training will follow. `gradient_angle` looks at rows by themselves.
"""

# Shape letters: R rows, C classes, D width of the hidden states.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from softlab.labels.dense import dense_probabilities
from softlab.labels.draws import uniforms
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.sampling import keep_sampled
from softlab.labels.selection import keep_top_k

Stored = Callable[[Tensor, Tensor], Tensor]
"""From the logits [R, C] of some rows, and their numbers, to the weight that each class has in a store, [R, C]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Angles:
    """Degrees between the gradient of what is stored and that of the full KL at temperature 1."""

    weight: float
    """To the weight of the output layer, summed over all rows."""

    hidden: float
    """To the hidden states, each row's own, beside each other."""


@torch.no_grad()
def sampled_angles(
    logits: LazyLogits,
    *,
    resolutions: Sequence[int] = (),
    ks: Sequence[int] = (),
    student: LazyLogits | None = None,
    seed: int = 0,
) -> dict[str, Angles]:
    """By `sampled N` of each resolution and `top-K` with a uniform tail of each K; of a teacher's logits, rows [R, C].

    The student is over the same rows and classes; without one, its probabilities are all 1/C, and its hidden states and
    output layer are the teacher's. It takes [C, D] in float32 twice, and a few times 64 MiB.
    """
    stored: dict[str, Stored] = {
        f"sampled {resolution}": partial(_sampled, resolution=resolution, seed=seed) for resolution in resolutions
    }
    stored |= {f"top-{k}": partial(_top_k, k=k) for k in ks}
    return {name: _angles(logits, each, student=student) for name, each in stored.items()}


def _angles(logits: LazyLogits, stored: Stored, *, student: LazyLogits | None) -> Angles:
    layer = student or logits
    weight_CD = layer.layer()[0].float()
    full_CD, stored_CD = torch.zeros_like(weight_CD), torch.zeros_like(weight_CD)
    products = torch.zeros(3, dtype=torch.float64)
    for some, logits_RC in logits.chunks():
        numbers_R = torch.arange(some.start, some.stop)
        q_RC = torch.full_like(logits_RC, 1 / logits_RC.shape[1])
        if student is not None:
            q_RC = student[some].whole().softmax(dim=1)
        kept_RC = stored(logits_RC, numbers_R)
        to_full_RC = q_RC - logits_RC.softmax(dim=1)
        to_stored_RC = q_RC * kept_RC.sum(dim=1, keepdim=True) - kept_RC
        hidden_RD = layer.hidden[some].float()
        full_CD.addmm_(to_full_RC.T, hidden_RD)
        stored_CD.addmm_(to_stored_RC.T, hidden_RD)
        products += _products(to_full_RC @ weight_CD, to_stored_RC @ weight_CD)
    return Angles(weight=_degrees(_products(full_CD, stored_CD)), hidden=_degrees(products))


def _sampled(logits_RC: Tensor, numbers_R: Tensor, *, resolution: int, seed: int) -> Tensor:
    uniforms_R2 = uniforms(seed, view=0, samples_R=numbers_R, units_R=torch.zeros_like(numbers_R))
    labels = keep_sampled(logits_RC, resolution=resolution, uniforms_R2=uniforms_R2)
    weights_RK = (labels.logits_BK + labels.max_logit_B[:, None]).exp()
    return torch.zeros_like(logits_RC).scatter_add_(1, labels.class_ids_BK, weights_RK)


def _top_k(logits_RC: Tensor, numbers_R: Tensor, *, k: int) -> Tensor:
    return dense_probabilities(keep_top_k(logits_RC, k=k, temperatures=(1.0,)))


def _products(one: Tensor, other: Tensor) -> Tensor:
    """float64 [3], of one with the other and of each with itself."""
    pairs = (one, other), (one, one), (other, other)
    return torch.stack([(a * b).sum(dtype=torch.float64).cpu() for a, b in pairs])


def _degrees(products: Tensor) -> float:
    """NaN where there is no gradient."""
    between, one, other = products.tolist()
    length = math.sqrt(one * other)
    return math.degrees(math.acos(min(1.0, between / length))) if length else math.nan
