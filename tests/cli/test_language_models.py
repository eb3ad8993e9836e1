"""A language model from the outside."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.cli.program import Softlab
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama


def test_a_plan_tells_what_each_resolution_costs_and_what_a_billion_rows_would(
    tmp_path: Path, softlab: Softlab
) -> None:
    save_llama(tmp_path / "llama")
    pq.write_table(pa.table({"text": DOCUMENTS}), tmp_path / "texts.parquet")

    answer = softlab(
        *("dump-teacher", "--plan", "--teacher", f"hf:{tmp_path / 'llama'}", "--source", tmp_path / "texts.parquet"),
        *("--set", "teacher.arguments.task=causal", "--set", "teacher.input.modality=tokens"),
        *("--set", "source.fields.text=text", "--set", "dump.resolution=32"),
    )

    assert (answer.code, answer.err) == (0, "")
    assert re.search(r"16 +\d+\.\d.*\n.*32 \* +\d+\.\d.*\n.*48 +\d+\.\d", answer.out)
    told = re.search(r"Each billion rows of this kind: ([\d.,]+) GB and \d", answer.out)
    assert told is not None
    assert 5 < float(told[1].replace(",", "")) < 200
