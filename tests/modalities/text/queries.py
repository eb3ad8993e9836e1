"""Small queries with candidates, of different numbers."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.modalities.text.reviews import TEXTS, THINGS

QUERIES = [f"{ask} {thing}" for ask in ("what of the", "is this") for thing in THINGS]
CANDIDATES = [[TEXTS[(5 * query + place) % len(TEXTS)] for place in range(2 + query % 4)] for query in range(12)]
RELEVANCE = [[place % 3 if query % 4 else 0 for place in range(2 + query % 4)] for query in range(12)]
"""Every fourth query has no relevant candidate."""

FIELDS = {"query": "query", "candidates": "candidates"}


def write_queries(
    path: Path,
    *,
    candidates: Sequence[object] = CANDIDATES,
    relevance: Sequence[object] = RELEVANCE,
    queries: Sequence[str] = QUERIES,
) -> Path:
    """A Parquet file of them."""
    columns = {
        "query": pa.array(queries),
        "candidates": pa.array(candidates, pa.list_(pa.string())),
        "relevance": pa.array(relevance),
    }
    pq.write_table(pa.table(columns), path)
    return path


def write_triples(path: Path) -> Path:
    """Queries with a text that answers, and one that doesn't."""
    pairs = [(each[0], each[1]) for each in CANDIDATES]
    columns = {"query": QUERIES, "positive": [one for one, _ in pairs], "negative": [other for _, other in pairs]}
    pq.write_table(pa.table(columns), path)
    return path
