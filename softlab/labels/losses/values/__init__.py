"""Losses between what a student gives and stored values: embeddings, scores, dense logits. No classes are needed.

| loss          | what is compared                                | widths | prefixes | from                          |
| vector_mse    | the numbers                                     | equal  | yes      | Romero et al. 2015            |
| cosine        | the directions                                  | equal  | yes      | Sanh et al. 2019              |
| relational    | distances and angles between the rows of a batch| any    | yes      | Park et al. 2019              |
| similarity_kl | whom each row of a batch is similar to          | any    | yes      | Fang et al. 2021, in a batch  |
| vector_kl     | softmax over classes, candidates, or positions  | equal  | -        | Hinton et al. 2015            |
| pair_matching | whom each half of a pair is similar to           | any    | -        | Wu et al. 2023                |
| margin_mse    | by how much the first score leads the others    | equal  | -        | Hofstaetter et al. 2020       |

Each is a class of its options (`CosineLoss`, ..), and an object of it computes the loss: `CosineLoss()(student,
teacher)`. All of them together are `ValuesLoss`.
"""

from softlab.labels.losses.values.margin_mse import MarginMseLoss, margin_mse_loss
from softlab.labels.losses.values.options import LossOnValues, PrefixedLoss, ProjectedLoss
from softlab.labels.losses.values.pairs import PairMatchingLoss, pair_matching_loss
from softlab.labels.losses.values.similarity_kl import SimilarityKlLoss, similarity_kl_loss
from softlab.labels.losses.values.vector_kl import VectorKlLoss, vector_kl_loss
from softlab.labels.losses.values.vectors import CosineLoss, RelationalLoss, VectorMseLoss

ValuesLoss = (
    VectorMseLoss | CosineLoss | RelationalLoss | SimilarityKlLoss | PairMatchingLoss | VectorKlLoss | MarginMseLoss
)
"""What a student learns from stored values: the options of one loss, which are its own alone."""

__all__ = [
    "CosineLoss",
    "LossOnValues",
    "MarginMseLoss",
    "PairMatchingLoss",
    "PrefixedLoss",
    "ProjectedLoss",
    "RelationalLoss",
    "SimilarityKlLoss",
    "ValuesLoss",
    "VectorKlLoss",
    "VectorMseLoss",
    "margin_mse_loss",
    "pair_matching_loss",
    "similarity_kl_loss",
    "vector_kl_loss",
]
