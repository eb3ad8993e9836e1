"""Small students for log-mel spectrograms: convolutions and a GRU. What fills a clip up never changes what they give.

`mels` and `per_frame` are told by the input that they are built for.
"""

# Shape letters: B clips in a batch, L frames of the longest one of them, M mel bands, D numbers a frame, C classes.

import torch
from torch import Tensor, nn

from softlab.modalities.sequence_layers import DilatedConvolutions, MeanOverOwn, bidirectional, own_mask, states_of

__all__ = ["audio_conv", "audio_gru"]


def audio_conv(
    *,
    num_classes: int = 2,
    mels: int = 64,
    width: int = 64,
    num_layers: int = 4,
    dropout: float = 0.1,
    per_frame: bool = False,
) -> nn.Module:
    """Depthwise convolutions over time, each with twice the gaps of the one before: with 4 layers a frame sees 30
    frames to each side. Its layer `frames` is [B, L, width], `pool` their mean; `per_frame` gives logits [B, L, C]."""
    frames = DilatedConvolutions(mels, width=width, num_layers=num_layers, dropout=dropout)
    return AudioClassifier(frames, num_classes=num_classes, width=width, dropout=dropout, per_frame=per_frame)


def audio_gru(
    *,
    num_classes: int = 2,
    mels: int = 64,
    width: int = 64,
    num_layers: int = 1,
    dropout: float = 0.1,
    per_frame: bool = False,
) -> nn.Module:
    """A bidirectional GRU, half of the width in each direction. Its layer `frames` is [B, L, width], `pool` their mean;
    `per_frame` gives logits [B, L, C]."""
    frames = BidirectionalGru(mels=mels, width=width, num_layers=num_layers, dropout=dropout)
    return AudioClassifier(frames, num_classes=num_classes, width=width, dropout=dropout, per_frame=per_frame)


class AudioClassifier(nn.Module):
    """States of each frame, their mean unless frames have rows of their own, classes."""

    def __init__(self, frames: nn.Module, *, num_classes: int, width: int, dropout: float, per_frame: bool) -> None:
        super().__init__()
        self.frames = frames
        self.pool = nn.Identity() if per_frame else MeanOverOwn()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, spectra: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, C] or [B, L, C] of log-mel spectrograms [B, L, M]; `lengths` [B] are their own frames, all of
        them by default."""
        if spectra.ndim != 3:
            raise ValueError("expected spectra [clips, frames, bands], as `input.features = log_mel` gives them")
        if lengths is None:
            lengths = torch.full((len(spectra),), spectra.shape[1], device=spectra.device)
        own_BL = own_mask(lengths, length=spectra.shape[1])
        states_BLD = self.frames(spectra, own_BL)
        pooled = self.pool(states_BLD) if isinstance(self.pool, nn.Identity) else self.pool(states_BLD, own_BL)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class BidirectionalGru(nn.Module):
    """States of each frame; zeros where a clip is filled up."""

    def __init__(self, *, mels: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = bidirectional(nn.GRU, mels, width=width, num_layers=num_layers, dropout=dropout)

    def forward(self, spectra_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        return states_of(self.gru, spectra_BLM, mask_BL)
