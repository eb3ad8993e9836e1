"""Language models: what a teacher's rows cost beside its forward pass, how fast stored rows are read, and memory."""

# Shape letters: R rows, D width of the hidden states, C classes.

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from softlab.bench.student_steps import StudentSteps
from softlab.bench.timing import rates
from softlab.labels.draws import uniforms
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses.forward_kl import KlLoss
from softlab.labels.sampling import keep_sampled
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.opening import open_source
from softlab.modalities.tokens.inputs import TokensInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.rows import logits_of
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import LearnOptions, RunOptions, TrainOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import Sampling
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.report import Report
from tests.benchmarks.threads import one_thread

NUM_DOCUMENTS, FEW_DOCUMENTS, NUM_WORDS, LENGTH, BATCH = 64, 8, 20_000, 256, 4
TEACHER: dict[str, Any] = {"width": 576, "num_layers": 30, "num_heads": 9}
"""Of the size of SmolLM2-135M."""

SMALL_TEACHER: dict[str, Any] = {"width": 64, "num_layers": 1, "num_heads": 4}
"""Of which rows are read, and learnt: what they cost doesn't hang on who said them."""

STUDENT: dict[str, Any] = {"width": 192, "num_layers": 6, "num_heads": 6}
VOCABULARIES = (49_152, 152_064)
MEMORY_ROWS, MEMORY_WIDTH = 2048, 512
TURN_S = 5.0
READS = 200
"""Of a turn: the first ones of many are slower."""


def bench_tokens(
    report: Report, folder: Path, *, rounds: int, is_quick: bool = False, only_ratios: bool = False
) -> None:
    """Causal transformers with random weights over documents of made-up words."""
    folder = folder / "tokens"
    folder.mkdir()
    source = write_documents(folder / "documents.parquet", FEW_DOCUMENTS if is_quick else NUM_DOCUMENTS)
    input = settle_input(TokensInput(tokenizer="train:16000", max_length=LENGTH), source)
    _bench_capture(report, make_teacher(input, SMALL_TEACHER if is_quick else TEACHER), source, rounds=rounds)
    dump_teacher(make_teacher(input, SMALL_TEACHER), source, folder / "store", DumpOptions(batch_size=BATCH))
    if not only_ratios:
        _bench_reading(report, folder, rounds=rounds)
    _bench_steps(report, source, input, folder, rounds=rounds, turn_s=0.1 if is_quick else TURN_S)
    if not only_ratios:
        _bench_memory(report, folder)


def make_teacher(input: TokensInput, sizes: dict[str, Any]) -> Teacher:
    """Its vocabulary is larger than that of its tokenizer."""
    torch.manual_seed(0)
    options = ModelOptions(model="softlab:tokens_transformer", arguments=sizes)
    module = build_model(options, told=model_arguments(input) | {"vocab_size": VOCABULARIES[0]})
    return Teacher(module=module, name=options.model, arguments=sizes, input=input)


def write_documents(file: Path, num_documents: int) -> Source:
    random = np.random.default_rng(0)
    letters = list("abcdefghiklmnoprstuvw")
    words = ["".join(random.choice(letters, size=size)) for size in random.integers(2, 10, NUM_WORDS)]
    share = 1 / np.arange(1, NUM_WORDS + 1)
    texts = [" ".join(random.choice(words, size=LENGTH // 2, p=share / share.sum())) for _ in range(num_documents)]
    pq.write_table(pa.table({"text": texts}), file)
    return open_source(SourceOptions(path=str(file), fields={"text": "text"}), modality="tokens")


BARE, SAMPLED = "bare forward", "sampled at 1/16"


def capture_rates(teacher: Teacher, source: Source, options: DumpOptions, *, rounds: int) -> dict[str, float]:
    """Tokens per second of a batch of documents."""
    with TeacherRun(teacher, options) as run:
        loader = BatchLoader(
            Aligned(source=source, inputs=(teacher.input,)), device=run.device, options=LoaderOptions(workers=0)
        )
        (batch,) = loader.load(in_sequence(0, options.batch_size, batch_size=options.batch_size))
        ways: dict[str, Callable[[], int]] = {BARE: partial(_forward, run, batch)}
        for resolution in (16, 48):
            ways[f"sampled at 1/{resolution}"] = partial(_capture, run, batch, resolution)
        return rates(ways, rounds=rounds)


def _bench_capture(report: Report, teacher: Teacher, source: Source, *, rounds: int) -> None:
    found = capture_rates(teacher, source, DumpOptions(batch_size=BATCH, selection="sampled"), rounds=rounds)
    bare = found[BARE]
    report.bar("rows of a language model against its bare forward pass", found[SAMPLED] / bare, at_least=0.97)
    parameters = sum(each.numel() for each in teacher.module.parameters())
    report.section(
        "Rows of a language model",
        f"A causal transformer of {parameters / 1e6:.0f} M parameters and {VOCABULARIES[0]:,} classes; tokens per "
        f"second. The bare pass computes all logits too, some rows after the others.",
        ["way", "tokens per second", "relative"],
        [[way, f"{rate:,.0f}", f"{rate / bare:.3f}"] for way, rate in found.items()],
    )


@torch.inference_mode()
def _forward(run: TeacherRun, batch: Batch) -> int:
    (collated,) = batch.to(run.device).inputs
    rows = logits_of(
        run.module, collated.inputs, device=run.device, autocast=run.options.device.autocast, counted=collated.units
    ).rows
    assert isinstance(rows, LazyLogits)
    for _ in rows.chunks():
        pass
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return len(rows)


def _capture(run: TeacherRun, batch: Batch, resolution: int) -> int:
    output = run.run(batch, selections={"logits": Sampling(resolution=resolution)}).start_to_host().wait()
    return len(output.labels["logits"])


def _bench_reading(report: Report, folder: Path, *, rounds: int) -> None:
    """Random documents, as labels that a loss takes."""
    store = open_store(folder / "store", cache=CacheOptions(dir=folder / "cache"))
    random = np.random.default_rng(0)

    def read() -> int:
        return sum(len(store.read(random.integers(0, store.num_samples, 32))) for _ in range(READS))

    with one_thread():
        (rate,) = rates({"read": read}, rounds=rounds).values()
    tokens = store.statistics.rows
    size = sum(file.bytes for file in store.manifest.files) / tokens
    cached = sum(file.stat().st_size for file in (folder / "cache").rglob("*.rows")) / tokens
    report.bar("millions of rows of tokens a second from the row cache, one core", rate / 1e6, at_least=3)
    report.section(
        "Stored rows of tokens",
        "Random documents from the row cache as labels, on one core; bytes of the whole store with the tokens that "
        "were read, and of the row cache.",
        ["tokens per second", "bytes a token", "bytes in the cache"],
        [[f"{rate:,.0f}", f"{size:.1f}", f"{cached:.1f}"]],
    )


def _bench_steps(
    report: Report, source: Source, input: TokensInput, folder: Path, *, rounds: int, turn_s: float
) -> None:
    store = open_store(folder / "store", cache=CacheOptions(dir=folder / "cache"))
    student = make_teacher(input, STUDENT).module
    options = TrainOptions(run=RunOptions(batch_size=BATCH), learn=LearnOptions(loss=KlLoss(temperature=1.0)))
    steps = StudentSteps("student", student, source, store, options, input=input, turn_s=turn_s)
    found = rates({"the text's own tokens": steps.hard(), "stored rows": steps.stored()}, rounds=rounds)
    hard, stored = found.values()
    report.bar("training on stored rows of tokens against cross-entropy", stored / hard, at_least=0.95)
    parameters = sum(each.numel() for each in student.parameters())
    report.section(
        "Training on tokens",
        f"A causal transformer of {parameters / 1e6:.0f} M parameters and {VOCABULARIES[0]:,} classes, documents of up "
        f"to {LENGTH} tokens in batches of {BATCH}; documents per second, and relative to cross-entropy by chunks.",
        ["what is learnt", "documents per second", "relative"],
        [[way, f"{rate:,.1f}", f"{rate / hard:.3f}"] for way, rate in found.items()],
    )


def _bench_memory(report: Report, folder: Path) -> None:
    rows = []
    for vocabulary in VOCABULARIES:
        nothing = peak_bytes(_make, folder, vocabulary)
        used = [peak_bytes(way, folder, vocabulary) - nothing for way in (_sample_some, _sample_all)]
        rows.append([f"{vocabulary:,}", *(f"{each / 1e6:,.0f} MB" for each in used)])
    report.section(
        "Memory of sampling a vocabulary",
        f"{MEMORY_ROWS:,} rows from hidden states of {MEMORY_WIDTH} numbers: memory at its peak beyond inputs and "
        f"libraries, some rows after the others, and of all logits at once.",
        ["vocabulary", "some rows at a time", "all logits at once"],
        rows,
    )


def _made(_: Path, vocabulary: int) -> tuple[LazyLogits, Tensor]:
    """Logits, and what they are sampled by; a few are, so that libraries are loaded."""
    lazy = LazyLogits(
        hidden=torch.randn(MEMORY_ROWS, MEMORY_WIDTH), weight_CD=torch.randn(vocabulary, MEMORY_WIDTH) / 16
    )
    numbers_R = torch.arange(MEMORY_ROWS)
    uniforms_R2 = uniforms(0, view=0, samples_R=numbers_R, units_R=numbers_R)
    keep_sampled(lazy[:2], resolution=16, uniforms_R2=uniforms_R2[:2])
    return lazy, uniforms_R2


def _make(path: Path, vocabulary: int) -> None:
    _made(path, vocabulary)


def _sample_some(path: Path, vocabulary: int) -> None:
    lazy, uniforms_R2 = _made(path, vocabulary)
    keep_sampled(lazy, resolution=16, uniforms_R2=uniforms_R2)


def _sample_all(path: Path, vocabulary: int) -> None:
    lazy, uniforms_R2 = _made(path, vocabulary)
    keep_sampled(lazy.whole(), resolution=16, uniforms_R2=uniforms_R2)
