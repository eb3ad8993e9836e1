import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

import softlab
from softlab.errors import InvalidOption
from softlab.loading.aligned import Aligned
from softlab.loading.lengths import lengths_of
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.modality import settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.models.build import ModelOptions, build_model
from tests.modalities.text.reviews import TEXTS, write_reviews
from tests.student.flat_options import train_options

TRAINED = TextInput(tokenizer="train:120", trained=train_tokenizer(TEXTS, vocab_size=120))


@pytest.fixture
def source(tmp_path: Path) -> Any:
    return softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")


def test_a_text_is_as_long_as_its_bytes(source: Any) -> None:
    lengths_N = lengths_of(Aligned(source=source, inputs=(TRAINED,)), count=20)

    assert lengths_N.tolist() == [len(text.encode()) for text in TEXTS[:20]]


def test_of_several_fields_those_that_the_inputs_of_a_run_read_are_measured(tmp_path: Path) -> None:
    columns = {"question": ["a film", "a book"], "answer": ["it was gr\u00f6\u00dfer", "dull"], "label": [0, 1]}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    fields = {"question": "question", "answer": "answer"}
    pairs = softlab.open_source(
        softlab.SourceOptions(path=str(tmp_path / "pairs.parquet"), fields=fields), modality="text"
    )
    question = replace(TRAINED, field="question")
    both = replace(question, pair_field="answer")

    assert lengths_of(Aligned(source=pairs, inputs=(question,)), count=2).tolist() == [6, 6]
    assert lengths_of(Aligned(source=pairs, inputs=(question, both)), count=2).tolist() == [6 + 6 + 15, 6 + 6 + 4]


def student() -> nn.Module:
    return build_model(ModelOptions(model="softlab:text_bag"), told=MODALITY.model_arguments(TRAINED))


def test_a_run_of_texts_has_such_batches_and_says_so_in_its_record(tmp_path: Path, source: Any) -> None:
    input = settle_input(TRAINED, source)
    for name, asked in (("with", True), ("without", False)):
        options = train_options(epochs=1, batch_size=4, device="cpu", track=(), batch_by_length=asked)
        (result,) = softlab.train_students({"bag": student()}, source, [], options, input=input, out=tmp_path / name)
        assert result.error is None

    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("with", "without")]
    assert records[0]["run"].pop("batch_by_length") is True
    assert records[0]["run"] == records[1]["run"]


def test_samples_without_a_length_are_refused(source: Any) -> None:
    with pytest.raises(InvalidOption, match=r"run\.batch_by_length: samples of the modality images have no length\."):
        lengths_of(Aligned(source=source, inputs=(ImageInput(),)), count=1)
