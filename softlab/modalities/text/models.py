"""Small students for texts: a bag of words, a BiLSTM, a transformer. Padding never changes what they give.

`vocab_size`, `pad_id`, `max_length` and `max_words` are told by the input that they are built for. Where that seeks
answers among words, they give `start` and `end` in place of classes, see `TextReader`.
"""

# Shape letters: B texts in a batch, L tokens of the longest one of them, D numbers a token, C classes.

import torch
from torch import Tensor, nn

from softlab.labels.candidates import score_candidates, score_pairs
from softlab.modalities.sequence_layers import MeanOverOwn, bidirectional, states_of
from softlab.modalities.text.readers import TextReader

__all__ = ["text_bag", "text_lstm", "text_transformer"]


def text_bag(*, vocab_size: int, num_classes: int = 2, width: int = 64, pad_id: int = 0) -> nn.Module:
    """The mean of the embeddings of all tokens; its layer `pool` is [B, width]."""
    return TextClassifier(nn.Identity(), vocab_size=vocab_size, num_classes=num_classes, width=width, pad_id=pad_id)


def text_lstm(
    *,
    vocab_size: int,
    num_classes: int = 2,
    width: int = 128,
    num_layers: int = 1,
    dropout: float = 0.1,
    pad_id: int = 0,
    per_token: bool = False,
    max_words: int = 0,
) -> nn.Module:
    """A bidirectional LSTM (Tang et al. 2019), half of the width in each direction; its layer `tokens` is
    [B, L, width], `pool` their mean. `per_token` gives logits [B, L, C], for `input.unit`."""
    states = BidirectionalLstm(width=width, num_layers=num_layers, dropout=dropout)
    if max_words:
        return TextReader(states, vocab_size=vocab_size, width=width, pad_id=pad_id, dropout=dropout)
    made = TokenClassifier if per_token else TextClassifier
    return made(states, vocab_size=vocab_size, num_classes=num_classes, width=width, pad_id=pad_id, dropout=dropout)


def text_transformer(
    *,
    vocab_size: int,
    max_length: int,
    num_classes: int = 2,
    width: int = 128,
    num_layers: int = 2,
    num_heads: int = 4,
    dropout: float = 0.1,
    pad_id: int = 0,
    per_token: bool = False,
    max_words: int = 0,
) -> nn.Module:
    """A small transformer with learnt positions (pre-normalised); its layer `tokens` is [B, L, width], `pool` their
    mean. `per_token` gives logits [B, L, C], for `input.unit`."""
    states = SmallTransformer(
        max_length=max_length, width=width, num_layers=num_layers, num_heads=num_heads, dropout=dropout
    )
    if max_words:
        return TextReader(states, vocab_size=vocab_size, width=width, pad_id=pad_id, dropout=dropout)
    made = TokenClassifier if per_token else TextClassifier
    return made(states, vocab_size=vocab_size, num_classes=num_classes, width=width, pad_id=pad_id, dropout=dropout)


class TextClassifier(nn.Module):
    """Embeddings, states of each token, their mean over real tokens, classes."""

    def __init__(
        self, tokens: nn.Module, *, vocab_size: int, num_classes: int, width: int, pad_id: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.dropout = nn.Dropout(dropout)
        self.tokens = tokens
        self.pool = MeanOverOwn()
        self.classifier = nn.Linear(width, num_classes)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        candidate_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, C]. Which text of a pair a token is of isn't looked at: separators tell. Of queries with
        candidates scores [B, N]: dot products of what it gives for each text, or what it gives for each pair."""
        if candidate_ids is not None and candidate_mask is not None:
            return score_candidates(self.encode, input_ids, attention_mask, candidate_ids, candidate_mask)
        if input_ids.ndim == 3:
            return score_pairs(self.encode, {"input_ids": input_ids, "attention_mask": attention_mask})
        return self.encode(input_ids, attention_mask)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, C] of texts [B, L]: logits, or the numbers of a vector."""
        embedded_BLD = self.dropout(self.embedding(input_ids))
        plain = isinstance(self.tokens, nn.Identity)
        states_BLD = self.tokens(embedded_BLD) if plain else self.tokens(embedded_BLD, attention_mask)
        logits_BC: Tensor = self.classifier(self.dropout(self.pool(states_BLD, attention_mask)))
        return logits_BC


class TokenClassifier(nn.Module):
    """Embeddings, states of each token, classes of each."""

    def __init__(
        self, tokens: nn.Module, *, vocab_size: int, num_classes: int, width: int, pad_id: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.dropout = nn.Dropout(dropout)
        self.tokens = tokens
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits [B, L, C]; those of padding mean nothing."""
        embedded_BLD = self.dropout(self.embedding(input_ids))
        logits_BLC: Tensor = self.classifier(self.dropout(self.tokens(embedded_BLD, attention_mask)))
        return logits_BLC


class BidirectionalLstm(nn.Module):
    """States of each token; zeros where a text is filled up."""

    def __init__(self, *, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = bidirectional(nn.LSTM, width, width=width, num_layers=num_layers, dropout=dropout)

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        return states_of(self.lstm, embedded_BLD, mask_BL)


class SmallTransformer(nn.Module):
    """States of each token, none of which looks at what fills a text up."""

    def __init__(self, *, max_length: int, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Embedding(max_length, width)
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        positions_L = torch.arange(embedded_BLD.shape[1], device=embedded_BLD.device)
        states_BLD: Tensor = self.encoder(embedded_BLD + self.positions(positions_L), src_key_padding_mask=mask_BL == 0)
        return states_BLD
