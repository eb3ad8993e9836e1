"""From images to logits, whatever a classifier's forward returns them in."""

# Shape letters: B images in a batch, C classes, H height, W width.

from collections.abc import Callable

import torch
from torch import Tensor

from softlab.errors import ModelError, SoftlabError
from softlab.models.device import Autocast, autocast_on


def logits_of(
    module: Callable[..., object], images_BCHW: Tensor, *, device: torch.device, autocast: Autocast
) -> Tensor:
    """[B, C] on the device, in the dtype of autocast: the output, or its field `logits`.

    Raises ModelError for a model that can't run on such images, or gives something else.
    """
    try:
        with autocast_on(device, autocast):
            output = module(images_BCHW)
    except SoftlabError:
        raise
    except Exception as error:  # whatever code of others raises here is an answer to the images it was given
        raise ModelError(_refusal(images_BCHW, error)) from error
    logits_BC = getattr(output, "logits", output)
    if not isinstance(logits_BC, Tensor) or logits_BC.ndim != 2 or len(logits_BC) != len(images_BCHW):
        raise ModelError(
            f"the model returned {_describe(logits_BC)} for {len(images_BCHW)} images, expected logits "
            f"[{len(images_BCHW)}, classes]. Wrap it in a module that returns them."
        )
    return logits_BC


def _refusal(images_BCHW: Tensor, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    hint = "Make them what it expects with --input-size and --input-channels"
    if isinstance(error, torch.OutOfMemoryError):
        hint = "Lower --batch-size"
    shape = list(images_BCHW.shape)
    return f"the model can't run on images of shape {shape}: {type(error).__name__}: {reason}. {hint}."


def _describe(output: object) -> str:
    return f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
