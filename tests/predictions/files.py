"""Files of predictions, made as users make them."""

# Shape letters: N rows, C classes.

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

NAMES = ("cat", "dog", "hen")


def probabilities(count: int, *, num_classes: int = len(NAMES), seed: int = 0) -> NDArray[np.float64]:
    """[N, C], rows that sum to 1."""
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), count)


def write_table(file: Path, columns: Mapping[str, Any]) -> Path:
    """As Parquet or CSV."""
    table = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    if file.suffix == ".csv":
        pa.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
    return file


def write_lines(file: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


def chat_answer(key: str, *tokens: Mapping[str, float]) -> dict[str, Any]:
    """A result of a batch of a chat service: the tokens that were written, each with the likeliest at its place."""
    content = [
        {
            "token": next(iter(likeliest)),
            "logprob": next(iter(likeliest.values())),
            "top_logprobs": [
                {"token": token, "logprob": logprob, "bytes": None} for token, logprob in likeliest.items()
            ],
        }
        for likeliest in tokens
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "logprobs": {"content": content}}
    return {
        "custom_id": key,
        "response": {"status_code": 200, "body": {"object": "chat.completion", "choices": [choice]}},
    }


def completion_answer(key: str, *tokens: Mapping[str, float]) -> dict[str, Any]:
    """The answer of an inference engine to a plain completion."""
    return {"key": key, "choices": [{"text": "x", "logprobs": {"top_logprobs": [dict(each) for each in tokens]}}]}
