"""Texts, or pairs of them, as one input of a model, filled up to the longest."""

# Shape letters: B texts in a batch, L tokens of the longest one of them, C classes of answers among words.

from collections.abc import Sequence

import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.manifest import TokensRecord
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.text.candidates import Texts
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.spans import FIRST_TOKENS, LAST_TOKENS, Encoded, class_tokens
from softlab.modalities.text.tokenizer import TextTokenizer
from softlab.modalities.text.words import word_units


def collate_texts(examples: Sequence[Texts], options: TextInput, tokenizer: TextTokenizer) -> Collated:
    """`input_ids` and `attention_mask` [B, L], for pairs that the tokenizer tells apart `token_type_ids`; with `unit`
    the rows of words, and where answers are sought `first_tokens` and `last_tokens` [B, C]. Raises InvalidOption for a
    text of which the tokenizer leaves nothing."""
    pairs = [(each[options.field], each[options.pair_field] if options.pair_field else None) for each in examples]
    encoded = [tokenizer.encode(*pair) for pair in pairs]
    for found, (text, _) in zip(encoded, pairs, strict=True):
        if not found.ids:
            raise InvalidOption(
                f"the tokenizer leaves nothing of the text {text[:40]!r}. Leave such samples out, or choose another "
                f"`input.tokenizer`."
            )
    lengths = [len(found.ids) for found in encoded]
    ids_BL = torch.full((len(encoded), max(lengths)), tokenizer.pad_id)
    mask_BL, types_BL = torch.zeros_like(ids_BL), torch.zeros_like(ids_BL)
    for place, (found, length) in enumerate(zip(encoded, lengths, strict=True)):
        ids_BL[place, :length] = torch.tensor(found.ids)
        mask_BL[place, :length] = 1
        types_BL[place, :length] = torch.tensor(found.type_ids)
    named = {"input_ids": ids_BL, "attention_mask": mask_BL}
    if options.pair_field and tokenizer.tells_texts_apart:
        named["token_type_ids"] = types_BL
    if options.max_words:
        named |= _tokens_of_classes(encoded, [str(context) for _, context in pairs], max_words=options.max_words)
    cut_off = sum(tokenizer.num_cut(found, *pair) for found, pair in zip(encoded, pairs, strict=True))
    return Collated(
        inputs=Inputs(named=named),
        units=word_units(encoded, [text for text, _ in pairs], length=max(lengths)) if options.unit else None,
        cut_off=sum(bool(found.overflowing) for found in encoded),
        tokens=TokensRecord(read=sum(lengths), cut_off=cut_off),
        outputs=options.outputs,
        classes_B=(named[FIRST_TOKENS] >= 0).sum(dim=1) if options.max_words else None,
    )


def _tokens_of_classes(encoded: Sequence[Encoded], contexts: Sequence[str], *, max_words: int) -> dict[str, Tensor]:
    tokens_B2C = torch.full((len(encoded), 2, 1 + max_words), -1)
    for place, (found, context) in enumerate(zip(encoded, contexts, strict=True)):
        tokens = class_tokens(found, context, max_words=max_words)
        tokens_B2C[place, :, : len(tokens[0])] = torch.tensor(tokens)
    return {FIRST_TOKENS: tokens_B2C[:, 0], LAST_TOKENS: tokens_B2C[:, 1]}
