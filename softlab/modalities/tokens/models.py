"""A small causal language model as a student. It gives LazyLogits, so a large vocabulary costs no memory."""

# Shape letters: B samples in a batch, L tokens of the longest one, D numbers a token, H heads, E numbers a head.

import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.labels.lazy_logits import LazyLogits, in_autocast_dtype

__all__ = ["tokens_transformer"]

INITIAL_STD = 0.02
"""Of embeddings, which are the output layer too: with torch's own 1 the first loss is 20 times ln(vocabulary)."""


def tokens_transformer(
    *,
    vocab_size: int,
    max_length: int,
    width: int = 256,
    num_layers: int = 4,
    num_heads: int = 4,
    dropout: float = 0.0,
) -> nn.Module:
    """Pre-normalised, with learnt positions, and embeddings that are the output layer too. Its layer `norm` is
    [B, L, width]. `vocab_size` and `max_length` are told by the input that it is built for."""
    if width % num_heads:
        raise ValueError(f"width = {width} is no multiple of num_heads = {num_heads}")
    return CausalTransformer(
        vocab_size=vocab_size,
        max_length=max_length,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        dropout=dropout,
    )


class CausalTransformer(nn.Module):
    """Each token is told by those before it."""

    def __init__(
        self, *, vocab_size: int, max_length: int, width: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(max_length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(CausalBlock(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        for each in (self.embedding, self.positions):
            nn.init.normal_(each.weight, std=INITIAL_STD)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> dict[str, LazyLogits]:
        """`logits` [B, L, C]. What fills a sample up stands behind it, where no token of it looks. Where `position_ids`
        begin anew, so does a sample, and no token of it looks at what is before."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device) if position_ids is None else position_ids
        seen_B1LL = None if position_ids is None else _seen_in_own_sample(position_ids)
        states_BLD = self.dropout(self.embedding(input_ids) + self.positions(positions))
        for block in self.blocks:
            states_BLD = block(states_BLD, seen_B1LL)
        return {"logits": LazyLogits(hidden=in_autocast_dtype(self.norm(states_BLD)), weight_CD=self.embedding.weight)}


class CausalBlock(nn.Module):
    """Attention to the tokens before, and two layers for each token."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BLD: Tensor, seen_B1LL: Tensor | None = None) -> Tensor:
        """`seen_B1LL` is which tokens each one looks at; None for all before it."""
        states_BLD = states_BLD + self.dropout(self._attend(self.attention_norm(states_BLD), seen_B1LL))
        changed_BLD: Tensor = states_BLD + self.dropout(self.mlp(self.mlp_norm(states_BLD)))
        return changed_BLD

    def _attend(self, states_BLD: Tensor, seen_B1LL: Tensor | None) -> Tensor:
        split = self.qkv(states_BLD).unflatten(2, (3, self.num_heads, -1))
        queries_BHLE, keys_BHLE, values_BHLE = split.permute(2, 0, 3, 1, 4)
        found_BHLE = functional.scaled_dot_product_attention(
            queries_BHLE, keys_BHLE, values_BHLE, attn_mask=seen_B1LL, is_causal=seen_B1LL is None
        )
        attended_BLD: Tensor = self.out(found_BHLE.transpose(1, 2).flatten(start_dim=2))
        return attended_BLD


def _seen_in_own_sample(position_BL: Tensor) -> Tensor:
    """bool [B, 1, L, L]."""
    sample_BL = (position_BL == 0).cumsum(dim=1)
    return (sample_BL[:, :, None] == sample_BL[:, None, :]).tril()[:, None]
