"""Students with several heads from the command line: trained, measured and reported."""

from pathlib import Path

from tests.cli.program import Softlab, assert_refused

RECIPE = """
store = ["{stores}/train.zarr"]
valid_store = ["{stores}/test.zarr"]
source = {{ path = "data/fashion_mnist/train", limit = 200 }}
valid = {{ path = "data/fashion_mnist/test", limit = 100 }}
input = {{ mean = [0.286], std = [0.353] }}
run = {{ epochs = 2, batch_size = 50, best_by = "label/accuracy" }}
log.track = []

[student.small]
model = "softlab:grey_heads"
arguments = {{ heads = {{ label = 10, again = 10 }} }}

[student.small.head.label]
output = "{output}"

[student.small.head.again]
output = "{output}"
alpha = 1.0
weight = 0.5

[student.small.head.again.loss]
name = "reverse_kl"
temperature = 1.0
"""


def test_students_with_heads_are_trained_measured_and_reported(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    recipe, out = tmp_path / "heads.toml", tmp_path / "run"
    recipe.write_text(RECIPE.format(stores=stores, output="logits"))

    trained = softlab("train-student", recipe, "--out", out)
    measured = softlab(
        *("evaluate", "--model", "softlab:grey_heads", "--weights", out / "small" / "last.safetensors"),
        *("--set", "model.arguments.heads={label = 10, again = 10}", "--set", "evaluate.head=label"),
        *("--source", "data/fashion_mnist/test", "--limit", "100"),
    )
    reported = softlab("report", out, "--no-plots", "--out", tmp_path / "report")

    assert trained.code == 0, trained.err
    assert "label accuracy %" in trained.out
    assert "again bucket KL nats" in trained.out
    assert "head again: " in trained.out
    assert "the best label accuracy of any epoch" in " ".join(trained.out.split())
    assert measured.code == 0, measured.err
    assert "accuracy" in measured.out
    assert reported.code == 0, reported.err
    assert "Students by label accuracy" in reported.out


def test_an_output_that_is_not_stored_is_one_line(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "heads.toml"
    recipe.write_text(RECIPE.format(stores=stores, output="logit"))

    refused = softlab("train-student", recipe, "--out", tmp_path / "run")

    assert_refused(refused, "head label: there is no stored output 'logit'", "as `head.label.output = logits`")


def test_what_is_about_one_output_is_refused_beside_heads(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "heads.toml"
    recipe.write_text(RECIPE.format(stores=stores, output="logits"))

    refused = softlab("train-student", recipe, "--out", tmp_path / "run", "--set", "output=logits")

    assert_refused(refused, "`output` is for students with one output, and these have heads.")
