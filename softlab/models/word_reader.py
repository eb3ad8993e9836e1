"""A model that finds answers among tokens, as one that finds them among words."""

# Shape letters: B texts in a batch, L tokens of the longest one, C classes: no answer, and the words of a text.

from torch import Tensor, nn

from softlab.labels.positions import logits_at


class WordReader(nn.Module):
    """A question answering model of transformers, whose layers are found below `reader`. It gives `start` and `end`
    [B, C], -inf where a text has no such word, whatever tokens it reads."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader = reader

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_tokens: Tensor,
        last_tokens: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`first_tokens` and `last_tokens` [B, C] are those of each word; -1 for none."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.reader(input_ids=input_ids, attention_mask=attention_mask, **types)
        return {
            "start": logits_at(found.start_logits, first_tokens),
            "end": logits_at(found.end_logits, last_tokens),
        }
