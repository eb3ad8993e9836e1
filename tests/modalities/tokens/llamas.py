"""Small causal language models with random weights and their tokenizers, as save_pretrained writes them."""

import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DOCUMENTS = [
    "It is a truth universally acknowledged, that a single man must be in want of a wife.",
    "However little known the feelings of such a man may be, this truth is well fixed in the minds of the families.",
    "My dear Mr. Bennet, said his lady to him one day, have you heard that Netherfield Park is let at last?",
    "Mr. Bennet replied that he had not.",
    "But it is, returned she; for Mrs. Long has just been here, and she told me all about it.",
    "Mr. Bennet made no answer.",
    "Do not you want to know who has taken it? cried his wife impatiently.",
    "You want to tell me, and I have no objection to hearing it.",
]

CHAT = [
    {"role": "user", "content": "What is a truth?"},
    {"role": "assistant", "content": "It is well fixed in the minds."},
    {"role": "user", "content": "And his wife?"},
    {"role": "assistant", "content": "She told me all about it."},
]

TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

FORGETFUL = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% if loop.last or turn.role != 'assistant' %}{{ turn.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Leaves out earlier answers, as some leave out earlier thoughts."""

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer(*, more: tuple[str, ...] = ()) -> Tokenizer:
    """Byte-pair encoding of 320 tokens that puts <s> in front."""
    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator(DOCUMENTS, trainer)
    rust.add_tokens(list(more))
    rust.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return rust


def save_tokenizer(
    folder: Path, *, template: str | None = TEMPLATE, max_length: int = 64, rust: Tokenizer | None = None
) -> Path:
    """As transformers writes it, without a pad token."""
    import transformers

    found = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust or byte_tokenizer(), bos_token="<s>", eos_token="</s>", model_max_length=max_length
    )
    found.chat_template = template
    found.save_pretrained(folder)
    return folder


def save_llama(
    folder: Path, *, kind: str = "Llama", seed: int = 0, dtype: str = "float32", max_length: int = 64, **config: Any
) -> Path:
    """Two layers, 32 numbers a token, with the tokenizer; the vocabulary is filled up to 384."""
    import transformers
    from transformers.utils import logging

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 384,
        "max_position_embeddings": 128,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**sizes | config))
    with torch.no_grad():  # else it says nearly the same of all tokens
        for parameter in model.parameters():
            parameter.mul_(3)
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    return save_tokenizer(folder, max_length=max_length)
