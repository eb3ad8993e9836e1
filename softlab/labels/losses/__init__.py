"""Losses between a student's logits and soft labels; no dense [B, C] teacher tensor is ever built.

| loss            | function                  | heads   | tails                        | T^2 | from                    |
| kl              | distillation_loss         | softmax | all                          | yes | Hinton et al. 2015      |
| reverse_kl      | reverse_kl_loss           | softmax | uniform, bucket              | yes | Gu et al. 2024          |
| symmetric_kl    | symmetric_kl_loss         | softmax | uniform, bucket              | yes | Jeffreys 1946           |
| jensen_shannon  | jensen_shannon_loss       | softmax | uniform, bucket, renormalise | yes | Agarwal et al. 2024     |
| mse             | logit_mse_loss            | both    | uniform, renormalise         | -   | Ba and Caruana 2014     |
| hinge           | hinge_loss                | softmax | -                            | -   | Weston and Watkins 1999 |
| bce             | binary_cross_entropy_loss | sigmoid | uniform, renormalise         | yes | Hinton et al. 2015      |
| dkd             | decoupled_kl_loss         | softmax | uniform, renormalise         | yes | Zhao et al. 2022        |
| dist            | dist_loss                 | softmax | uniform, renormalise         | yes | Huang et al. 2022       |
| standardised_kl | standardised_kl_loss      | softmax | uniform, bucket              | yes | Sun et al. 2024         |
| argmax          | argmax_loss               | softmax | -                            | -   | Lee 2013                |

Each has a class of its own options (`KlLoss`, ..), all of them together `DecisionLoss`; `make_loss` finds one by name.
`hard_cross_entropy` needs no teacher. Losses on stored values are in `values`, those of features in `features`;
`StudentLoss` is what a student may learn of a store, classes or values.
"""

from typing import get_args

from softlab.labels.losses.binary_cross_entropy import BinaryCrossEntropyLoss, binary_cross_entropy_loss
from softlab.labels.losses.checks import Tail, check_same_classes
from softlab.labels.losses.decision import (
    LOSS_BY_NAME,
    DecisionLoss,
    LossName,
    check_loss_head,
    decision_loss,
    has_temperature,
    make_loss,
    settled_loss,
    temperature_of,
)
from softlab.labels.losses.decoupled_kl import DecoupledKlLoss, decoupled_kl_loss
from softlab.labels.losses.dist import DistLoss, dist_loss
from softlab.labels.losses.divergences import (
    JensenShannonLoss,
    ReverseKlLoss,
    SymmetricKlLoss,
    jensen_shannon_loss,
    reverse_kl_loss,
    symmetric_kl_loss,
)
from softlab.labels.losses.forward_kl import KlLoss, distillation_loss, kl_rows
from softlab.labels.losses.hard import (
    ArgmaxLoss,
    HingeLoss,
    argmax_loss,
    hard_cross_entropy,
    hinge_loss,
    multi_label_cross_entropy,
)
from softlab.labels.losses.logit_mse import LogitMseLoss, logit_mse_loss
from softlab.labels.losses.notes import loss_notes
from softlab.labels.losses.standardised_kl import StandardisedKlLoss, standardised_kl_loss
from softlab.labels.losses.teacher import head_log_probabilities
from softlab.labels.losses.values import LossOnValues, ValuesLoss

StudentLoss = DecisionLoss | ValuesLoss

VALUES_LOSSES = tuple(each.name for each in get_args(ValuesLoss))
"""Names of losses for stores without classes."""

__all__ = [
    "LOSS_BY_NAME",
    "VALUES_LOSSES",
    "ArgmaxLoss",
    "BinaryCrossEntropyLoss",
    "DecisionLoss",
    "DecoupledKlLoss",
    "DistLoss",
    "HingeLoss",
    "JensenShannonLoss",
    "KlLoss",
    "LogitMseLoss",
    "LossName",
    "LossOnValues",
    "ReverseKlLoss",
    "StandardisedKlLoss",
    "StudentLoss",
    "SymmetricKlLoss",
    "Tail",
    "ValuesLoss",
    "argmax_loss",
    "binary_cross_entropy_loss",
    "check_loss_head",
    "check_same_classes",
    "decision_loss",
    "decoupled_kl_loss",
    "dist_loss",
    "distillation_loss",
    "hard_cross_entropy",
    "has_temperature",
    "head_log_probabilities",
    "hinge_loss",
    "jensen_shannon_loss",
    "kl_rows",
    "logit_mse_loss",
    "loss_notes",
    "make_loss",
    "multi_label_cross_entropy",
    "reverse_kl_loss",
    "settled_loss",
    "standardised_kl_loss",
    "symmetric_kl_loss",
    "temperature_of",
]
