"""Losses between a student's logits and soft labels; no dense [B, C] teacher tensor is ever built.

| loss            | function                  | heads   | tails                        | T^2 | from                    |
| kl              | distillation_loss         | softmax | uniform, bucket, renormalise | yes | Hinton et al. 2015      |
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

`decision_loss` computes any of them as `DecisionLoss` says; `hard_cross_entropy` needs no teacher.
"""

from softlab.labels.losses.binary_cross_entropy import binary_cross_entropy_loss
from softlab.labels.losses.checks import Tail, check_same_classes
from softlab.labels.losses.decision import DecisionLoss, LossName, decision_loss
from softlab.labels.losses.decoupled_kl import decoupled_kl_loss
from softlab.labels.losses.dist import dist_loss
from softlab.labels.losses.divergences import jensen_shannon_loss, reverse_kl_loss, symmetric_kl_loss
from softlab.labels.losses.forward_kl import distillation_loss, kl_rows
from softlab.labels.losses.hard import argmax_loss, hard_cross_entropy, hinge_loss
from softlab.labels.losses.logit_mse import logit_mse_loss
from softlab.labels.losses.standardised_kl import standardised_kl_loss
from softlab.labels.losses.teacher import head_log_probabilities

__all__ = [
    "DecisionLoss",
    "LossName",
    "Tail",
    "argmax_loss",
    "binary_cross_entropy_loss",
    "check_same_classes",
    "decision_loss",
    "decoupled_kl_loss",
    "dist_loss",
    "distillation_loss",
    "hard_cross_entropy",
    "head_log_probabilities",
    "hinge_loss",
    "jensen_shannon_loss",
    "kl_rows",
    "logit_mse_loss",
    "reverse_kl_loss",
    "standardised_kl_loss",
    "symmetric_kl_loss",
]
