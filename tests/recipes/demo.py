"""Recipes of the demo's data, as short as they can be."""

from pathlib import Path

from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.recipes.building import load_recipe
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.students import TeacherModel
from softlab.recipes.train import TrainRecipe
from softlab.sources.options import SourceOptions
from softlab.teacher.options import DumpOptions

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data/fashion_mnist"
INPUT = ImageInput(mean=(0.286,), std=(0.353,))
SOURCE = SourceOptions(path=str(DATA / "train"), limit=200)
TEACHER = TeacherModel(model="softlab:grey_resnet", weights=DATA / "teacher.safetensors")
SMALL = DumpOptions(k=4, shard_rows=64, feature={"pool": "pool"})


def dump(out: Path | None, *, teacher: TeacherModel = TEACHER, plan: bool = False) -> DumpRecipe:
    """A dump of 200 images."""
    return DumpRecipe(out=out, plan=plan, teacher=teacher, source=SOURCE, input=INPUT, dump=SMALL)


def train(store: Path, out: Path, *assignments: str) -> TrainRecipe:
    """A training run of one epoch on the store of such a dump, with some options given as `KEY=VALUE`."""
    run = (
        *(f"store=['{store}']", f"out='{out}'", f"source={{path = '{SOURCE.path}', limit = {SOURCE.limit}}}"),
        *("input={mean = [0.286], std = [0.353]}", "student.mlp.model=softlab:grey_mlp"),
        *("run.epochs=1", "run.batch_size=50"),
    )
    return load_recipe(TrainRecipe, assignments=[*run, *assignments])


LACKING = ("T-shirt/top", "Sneaker")


def as_class_folders(root: Path) -> Path:
    """The demo's images, but for those of two classes."""
    source = open_source(SOURCE)
    assert source.class_names is not None
    for index, target in enumerate(source.targets["label"].tolist()):
        if (name := source.class_names[target]) not in LACKING:
            image = source.read(index).fields["image"]
            assert isinstance(image, bytes)
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{index}.png").write_bytes(image)
    return root


COMMON = f"""
[common]
source = {{ path = "{DATA / "train"}", limit = 200 }}
input = {{ mean = [0.286], std = [0.353] }}
dump = {{ k = 4, shard_rows = 64 }}
run = {{ epochs = 1, batch_size = 50 }}
"""

ASSISTANT = """
[[stage]]
command = "train-teacher"
out = "teacher"
teacher.model = "softlab:grey_cnn"

[[stage]]
command = "dump-teacher"
out = "teacher.zarr"
teacher = { model = "softlab:grey_cnn", weights = "teacher/teacher/last.safetensors" }
dump.k = 6

[[stage]]
command = "train-student"
out = "assistant"
store = ["teacher.zarr"]
student.middle = { model = "softlab:grey_mlp", arguments = { width = 64 } }

[[stage]]
command = "dump-teacher"
out = "assistant.zarr"
teacher = { model = "softlab:grey_mlp", arguments = { width = 64 }, weights = "assistant/middle/last.safetensors" }

[[stage]]
command = "train-student"
out = "student"
store = ["assistant.zarr"]
student.small.model = "softlab:grey_mlp"
loss.name = "jensen_shannon"
"""
