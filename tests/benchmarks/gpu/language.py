"""What sampled rows of a language model cost beside its forward pass on the GPU."""

from pathlib import Path

from softlab.modalities.modality import settle_input
from softlab.modalities.tokens.inputs import TokensInput
from softlab.teacher.options import DumpOptions
from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.work import Work
from tests.benchmarks.tokens import BARE, LENGTH, SAMPLED, capture_rates, make_teacher, write_documents

BAR = 0.95


def measure_language_model(work: Work, folder: Path) -> list[Finding]:
    """Tokens per second; a batch of all documents."""
    source = write_documents(folder / "documents.parquet", work.num_documents)
    teacher = make_teacher(
        settle_input(TokensInput(tokenizer="train:16000", max_length=LENGTH), source), work.causal_model
    )
    options = DumpOptions(batch_size=work.num_documents, selection="sampled", device=work.placed)
    found = capture_rates(teacher, source, options, rounds=work.rounds)
    return [
        Finding(
            part="language model",
            what=way,
            rate=rate,
            relative=rate / found[BARE],
            at_least=BAR if way == SAMPLED else None,
        )
        for way, rate in found.items()
    ]
