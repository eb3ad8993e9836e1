"""Small students for log-mel spectrograms: convolutions and a GRU. What fills a clip up never changes what they give.

`mels` and `per_frame` are told by the input that they are built for.
"""

# Shape letters: B clips in a batch, L frames of the longest one of them, M mel bands, D numbers a frame, C classes.

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
    frames = DilatedConvolutions(mels=mels, width=width, num_layers=num_layers, dropout=dropout)
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
        self.pool = nn.Identity() if per_frame else MeanOverFrames()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, spectra: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, C] or [B, L, C] of log-mel spectrograms [B, L, M]; `lengths` [B] are their own frames, all of
        them by default."""
        if spectra.ndim != 3:
            raise ValueError("expected spectra [clips, frames, bands], as `input.features = log_mel` gives them")
        if lengths is None:
            lengths = torch.full((len(spectra),), spectra.shape[1], device=spectra.device)
        states_BLD = self.frames(spectra, lengths)
        pooled = self.pool(states_BLD) if isinstance(self.pool, nn.Identity) else self.pool(states_BLD, lengths)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class MeanOverFrames(nn.Module):
    """Of a clip's own ones."""

    def forward(self, states_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        own_BL1 = is_own(states_BLD, lengths_B)
        return (states_BLD * own_BL1).sum(dim=1) / own_BL1.sum(dim=1)


class DilatedConvolutions(nn.Module):
    """States of each frame; what fills a clip up is zero before each layer."""

    def __init__(self, *, mels: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Linear(mels, width)
        self.layers = nn.ModuleList(
            DepthwiseBlock(width, gap=1 << number, dropout=dropout) for number in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, spectra_BLM: Tensor, lengths_B: Tensor) -> Tensor:
        states_BLD, own_BL1 = self.stem(spectra_BLM), is_own(spectra_BLM, lengths_B)
        for layer in self.layers:
            states_BLD = layer(states_BLD, own_BL1)
        normalised_BLD: Tensor = self.norm(states_BLD)
        return normalised_BLD


class DepthwiseBlock(nn.Module):
    """Five frames of each number, then all numbers of each frame, beside an identity."""

    def __init__(self, width: int, *, gap: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv1d(width, width, 5, padding=2 * gap, dilation=gap, groups=width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BLD: Tensor, own_BL1: Tensor) -> Tensor:
        seen_BLD = self.over_time((self.norm(states_BLD) * own_BL1).transpose(1, 2)).transpose(1, 2)
        changed_BLD: Tensor = states_BLD + self.dropout(self.mlp(seen_BLD))
        return changed_BLD


class BidirectionalGru(nn.Module):
    """States of each frame; zeros where a clip is filled up."""

    def __init__(self, *, mels: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(mels, width // 2, num_layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, spectra_BLM: Tensor, lengths_B: Tensor) -> Tensor:
        packed = pack_padded_sequence(spectra_BLM, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
        states_BLD, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=spectra_BLM.shape[1])
        return states_BLD


def is_own(sounds: Tensor, lengths_B: Tensor) -> Tensor:
    """1 for a clip's own frames and 0 for what fills it up, [B, L, 1] in the dtype of [B, L, ..]."""
    places_L = torch.arange(sounds.shape[1], device=sounds.device)
    return (places_L < lengths_B[:, None]).to(sounds.dtype).unsqueeze(2)
