"""Small students that find an answer in a text: where it begins and ends, among the words."""

# Shape letters: B texts in a batch, L tokens of the longest one of them, D numbers a token, C classes: no answer, and
# the words of a text.

import torch
from torch import Tensor, nn

from softlab.labels.positions import logits_at


class TextReader(nn.Module):
    """Embeddings, states of each token, and two scores a token: of a beginning and of an end.

    A token is embedded with which text it is of, and with whether the other text has it too, as Chen et al. (2017),
    section 3.2, do: a small model learns from that where to look.
    """

    def __init__(self, tokens: nn.Module, *, vocab_size: int, width: int, pad_id: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.text_and_match = nn.Embedding(4, width)
        self.dropout = nn.Dropout(dropout)
        self.tokens = tokens
        self.answer = nn.Linear(width, 2)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_tokens: Tensor,
        last_tokens: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`start` and `end` [B, C], -inf where a text has no such word. `first_tokens` and `last_tokens` [B, C] are
        those of each word; -1 for none."""
        types_BL = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        marks_BL = 2 * types_BL + in_other_text(input_ids, types_BL, attention_mask)
        embedded_BLD = self.dropout(self.embedding(input_ids) + self.text_and_match(marks_BL))
        scores_BL2 = self.answer(self.dropout(self.tokens(embedded_BLD, attention_mask)))
        return {
            "start": logits_at(scores_BL2[..., 0], first_tokens),
            "end": logits_at(scores_BL2[..., 1], last_tokens),
        }


def in_other_text(ids_BL: Tensor, types_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """int64 [B, L], 1 for each token that stands in the other text of its pair too."""
    is_same_BLL = ids_BL[:, :, None] == ids_BL[:, None, :]
    is_other_BLL = types_BL[:, :, None] != types_BL[:, None, :]
    return (is_same_BLL & is_other_BLL & (mask_BL[:, None, :] > 0)).any(dim=2).long()
