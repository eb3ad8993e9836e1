"""Texts: a training step, bytes of a sentence, what padding costs a batch, and that it costs the row cache nothing."""

# Shape letters: N texts, B texts in a batch, C classes.

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from softlab.bench.student_steps import StudentSteps
from softlab.bench.timing import rates
from softlab.labels.chance import LabelClasses
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.lengths import lengths_of
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.modality import decode_sample, settle_input
from softlab.modalities.opening import open_source
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.options import TrainOptions
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report
from tests.store.unit_stores import fill, make_unit_plan, write_units

NUM_TEXTS, NUM_WORDS, NUM_CLASSES = 1000, 4000, 5
KEPT: tuple[tuple[int, int, LabelClasses], ...] = ((NUM_CLASSES, NUM_CLASSES, "same"), (77, 16, "other"))
"""Numbers of classes, how many of them are kept, and whether hard labels are of the same."""

BATCH, MAX_LENGTH, WIDTH = 32, 256, 64
LENGTHS, MANY_TEXTS = (4.0, 0.7), 20_000
"""Mean and deviation of the logarithm of their words."""

STORED = "stored, K = 5 of 5"
STUDENTS = ("softlab:text_bag", "softlab:text_lstm")
SURER = 20
TURN_S = 0.5
UNIT_ROWS, UNIT_SAMPLES = 2048, 600


def bench_texts(
    report: Report, folder: Path, *, rounds: int, num_texts: int = NUM_TEXTS, only_small: bool = False
) -> None:
    """Texts of made-up words whose lengths scatter as those of news do; `only_small` for a step of the smallest student
    alone."""
    folder = folder / "texts"
    folder.mkdir()
    source = write_texts(folder / "texts.parquet", num_texts)
    input = settle_input(TextInput(tokenizer="train:6000", max_length=MAX_LENGTH), source)
    teacher = make_teacher(input)
    dump_teacher(teacher, source, folder / "store", DumpOptions(batch_size=BATCH))
    store = open_store(folder / "store", cache=CacheOptions(dir=folder / "cache"))
    students = STUDENTS[:1] if only_small else STUDENTS
    _bench_steps(report, source, store, teacher, input, students=students, rounds=rounds)
    if only_small:
        return
    _bench_bytes(report, source, input, folder)
    _bench_padding(report, source, input, rounds=rounds)
    _bench_cache(report, folder)


def write_texts(file: Path, num_texts: int) -> Source:
    random = np.random.default_rng(0)
    words = [
        "".join(random.choice(list("abcdefghiklmnoprstuvw"), size=size)) for size in random.integers(2, 10, NUM_WORDS)
    ]
    share = 1 / np.arange(1, NUM_WORDS + 1)
    counts = random.lognormal(*LENGTHS, num_texts).astype(int) + 1
    texts = [" ".join(random.choice(words, size=count, p=share / share.sum())) for count in counts]
    labels = random.integers(0, NUM_CLASSES, num_texts)
    pq.write_table(pa.table({"text": texts, "label": labels}), file)
    return open_source(SourceOptions(path=str(file), fields={"text": "text"}), modality="text")


def make_teacher(input: TextInput, *, num_classes: int = NUM_CLASSES, layers: int = 2) -> Teacher:
    """A small transformer with random weights; those of its classes are larger, so that it is surer of them."""
    arguments: dict[str, Any] = {"width": 128, "num_heads": 4, "num_layers": layers, "num_classes": num_classes}
    torch.manual_seed(0)
    options = ModelOptions(model="softlab:text_transformer", arguments=arguments)
    module = build_model(options, told=MODALITY.model_arguments(input)).eval()
    with torch.no_grad():
        module.get_parameter("classifier.weight").mul_(SURER)
    return Teacher(module=module, name=options.model, arguments=arguments, input=input)


def _bench_steps(
    report: Report,
    source: Source,
    store: Store,
    teacher: Teacher,
    input: TextInput,
    *,
    students: Sequence[str],
    rounds: int,
) -> None:
    device = choose_device("auto")
    module = teacher.module.to(device)
    texts = [decode_sample(source.read(index), MODALITY) for index in range(len(source))]

    def ask_teacher(batch: Batch) -> Tensor:
        inputs = MODALITY.collate([texts[index] for index in batch.source_B.tolist()], input).inputs.to(device)
        with torch.inference_mode():
            logits_BC: Tensor = module(**inputs.named)
            return logits_BC

    options, rows = TrainOptions(), []
    for model in students:
        student = _student(model, input)
        steps = StudentSteps("student", student, source, store, options, input=input, turn_s=TURN_S)
        ways: dict[str, Callable[[], int]] = {
            "hard labels": steps.hard(),
            STORED: steps.stored(),
            "teacher in the loop": steps.hard(beside=ask_teacher),
        }
        found = rates(ways, rounds=rounds)
        hard, stored, online = found.values()
        report.bar(f"training on stored labels of texts against hard ones: {model}", stored / hard, at_least=0.98)
        report.bar(f"stored labels of texts against the teacher in the loop: {model}", stored / online, at_least=2)
        rows += [[model, way, f"{found[way]:,.0f}", f"{found[way] / hard:.3f}"] for way in ways]
    parameters = sum(each.numel() for each in module.parameters())
    report.section(
        "Training on texts",
        f"Batches of {options.run.batch_size} texts, tokens made anew for each; texts per second, and relative to "
        f"plain hard labels. Teacher in the loop: tokens and a forward pass of a transformer ({parameters / 1e6:.1f} M "
        f"parameters) a step, and no loss on what it says.",
        ["student", "labels", "texts per second", "relative"],
        rows,
    )


def _student(model: str, input: TextInput) -> nn.Module:
    torch.manual_seed(0)
    options = ModelOptions(model=model, arguments={"width": WIDTH, "num_classes": NUM_CLASSES})
    return build_model(options, told=MODALITY.model_arguments(input))


def _bench_bytes(report: Report, source: Source, input: TextInput, folder: Path) -> None:
    rows = []
    for num_classes, k, labels in KEPT:
        teacher = make_teacher(input, num_classes=num_classes, layers=1)
        for coding in ("float16", "uint8"):
            output = ("logits:classes",)  # also where few of 77 have little of the probability
            options = DumpOptions(k=k, coding=coding, batch_size=BATCH, output=output, labels=labels)
            files = dump_teacher(teacher, source, folder / f"{num_classes}-{coding}", options).manifest.files
            own = sum(file.bytes for file in files if file.path.startswith("outputs/")) / len(source)
            whole = sum(file.bytes for file in files) / len(source)
            rows.append([f"{k} of {num_classes}", coding, f"{own:.1f}", f"{whole:.1f}"])
    report.section(
        "Bytes of a text",
        f"Logits of a transformer with random weights, tails at T = 1, 2 and 4, zarr, {len(source):,} texts, one view. "
        f"Everything: also samples.parquet (key, target and content hash) and digests.",
        ["K", "coding", "labels", "everything"],
        rows,
    )


def _bench_padding(report: Report, source: Source, input: TextInput, *, rounds: int) -> None:
    aligned = Aligned(source=source, inputs=(input,))
    lengths_N = lengths_of(aligned, count=len(source))
    orders = {
        name: ShuffledBatches(num_samples=len(source), batch_size=BATCH, epochs=1, seed=0, lengths_N=lengths)
        for name, lengths in (("shuffled", None), ("of similar length", lengths_N))
    }
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0), keep_decoded=True)
    student, rows, padded = _student("softlab:text_lstm", input), [], {}

    def epoch(name: str) -> int:
        computed = real = 0
        for batch in loader.load(orders[name]):
            named = batch.inputs[0].inputs.named
            student(**named).sum().backward()
            computed, real = computed + named["input_ids"].numel(), real + int(named["attention_mask"].sum())
        padded[name] = computed / real
        return len(orders[name]) * BATCH

    found = rates({name: partial(epoch, name) for name in orders}, rounds=rounds)
    many = {name: _padding_of_many(is_grouped=name != "shuffled") for name in orders}
    for name, rate in found.items():
        ratios = [f"{padded[name]:.3f}", f"{many[name]:.3f}"]
        rows.append([name, *ratios, f"{rate:,.0f}", f"{rate / found['shuffled']:.2f}"])
    report.bar("tokens computed for a real one, batches of similar length", many["of similar length"], at_most=1.1)
    report.section(
        "Padding of batches",
        f"An epoch of {len(source):,} texts in batches of {BATCH}, at most {MAX_LENGTH} tokens, forward and backward "
        f"of a BiLSTM of width {WIDTH}.",
        ["batches", "tokens computed for a real one", f"of {MANY_TEXTS:,} texts", "texts per second", "relative"],
        rows,
    )


def _padding_of_many(*, is_grouped: bool) -> float:
    """The same ratio of more texts, of which lengths alone are made up: small sets have smaller windows."""
    lengths_N = np.minimum(np.random.default_rng(0).lognormal(*LENGTHS, MANY_TEXTS).astype(int) + 1, MAX_LENGTH)
    order = ShuffledBatches(
        num_samples=MANY_TEXTS, batch_size=BATCH, epochs=1, seed=0, lengths_N=lengths_N if is_grouped else None
    )
    lengths = [lengths_N[rows.source_B] for rows in order]
    return sum(int(each.max()) * len(each) for each in lengths) / sum(int(each.sum()) for each in lengths)


def _bench_cache(report: Report, folder: Path) -> None:
    """Rows of units as long as texts are."""
    rows_N = np.minimum(np.random.default_rng(0).lognormal(*LENGTHS, UNIT_SAMPLES).astype(int) + 1, MAX_LENGTH).tolist()
    plan = make_unit_plan(rows_N, num_views=1, shard_rows=100, unit_chunk_rows=UNIT_ROWS, chunk_rows=100)
    write_units(folder / "units", fill(plan, rows_N))
    store = open_store(folder / "units", cache=CacheOptions(dir=folder / "units-cache"))
    for start in range(0, len(rows_N), BATCH):
        store.read(range(start, min(start + BATCH, len(rows_N))))
    (file,) = (folder / "units-cache").rglob("outputs-tokens*.rows")
    fields = plan.storage.fields_of("outputs/tokens")
    row_bytes = sum(int(np.dtype(field.dtype).itemsize * np.prod(field.row_shape)) for field in fields)
    total, longest = sum(rows_N), max(rows_N) * len(rows_N)
    found = file.stat().st_size / (total * row_bytes)
    report.bar("bytes of units in the row cache for a byte of a row", found, at_most=1)
    report.section(
        "Units in the row cache",
        f"{len(rows_N):,} samples of 2 to {max(rows_N)} units, {row_bytes} bytes a row.",
        ["rows", "bytes in the cache", "rows x bytes of a row", "padded to the longest"],
        [[f"{total:,}", f"{file.stat().st_size:,}", f"{total * row_bytes:,}", f"{longest * row_bytes:,}"]],
    )
