"""Vectors from the outside."""

import json
from pathlib import Path

from tests.cli.program import Softlab
from tests.modalities.vectors.tables import make_table, write_table

FIELDS = ("weight", "rooms", "colour")


def test_weights_bring_their_statistics_and_refuse_a_category_that_they_have_not_seen(
    softlab: Softlab, tmp_path: Path
) -> None:
    """Of other samples, whose own means are others."""
    columns = make_table(count=40, seed=5)
    write_table(tmp_path / "train.parquet", make_table(), *FIELDS)
    write_table(tmp_path / "test.parquet", columns, *FIELDS)
    columns["colour"][7] = "mauve"
    write_table(tmp_path / "odd.parquet", columns, *FIELDS)
    fields = {name: name for name in FIELDS}
    recipe = tmp_path / "teacher.toml"
    recipe.write_text(
        f'[input]\nmodality = "vectors"\n[source]\npath = "{tmp_path / "train.parquet"}"\n'
        + "".join(f'fields.{name} = "{name}"\n' for name in fields)
        + '[teacher]\nmodel = "softlab:vectors_mlp"\n[run]\nepochs = 40\nbatch_size = 20\n[log]\ntrack = []\n'
        "[optimizer]\nlearning_rate = 1e-2\n"
    )
    trained = softlab("train-teacher", recipe, "--out", tmp_path / "run")
    assert trained.code == 0, trained
    model = ("--model", "softlab:vectors_mlp", "--weights", tmp_path / "run" / "teacher" / "last.safetensors", "--json")
    told = ("--set", "input.modality=vectors", "--set", f"source.fields={json.dumps(fields).replace(':', '=')}")

    measured = softlab("evaluate", *model, *told, "--source", tmp_path / "test.parquet")
    odd = ("evaluate", *model, *told, "--source", tmp_path / "odd.parquet")
    refused = softlab(*odd)
    read = softlab(*odd, "--set", "input.unseen=zeros")

    assert measured.code == 0, measured
    assert json.loads(measured.out)["values"]["accuracy"] > 0.9
    assert (refused.code, read.code) == (1, 0), read
    assert "sample '07' can't be read: its field 'colour' holds the category 'mauve'" in refused.err
