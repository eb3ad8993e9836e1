"""A teacher's fingerprint covers numbers that are no part of its module, or names it by what it gives."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import StoreMismatch, UnseenWeights
from softlab.models.weights import weights_fingerprint
from softlab.store.manifest_file import read_manifest
from tests.teacher.dumping import NUM_CLASSES, dump, make_options, make_teacher, stop_at

NUM_PIXELS = 3 * 4 * 6


def numbers(seed: int) -> Tensor:
    return torch.randn(NUM_CLASSES, NUM_PIXELS, generator=torch.Generator().manual_seed(seed))


class Engine:
    """No module, and it holds weights."""

    def __init__(self, seed: int) -> None:
        self.weights = numbers(seed)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        return functional.linear(images_BCHW.flatten(1), self.weights)


class OfNumpy(Engine):
    """As a session of another runtime, it takes arrays and gives arrays."""

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(images_BCHW.flatten(1).numpy() @ self.weights.numpy().T)


class Around(nn.Module):
    """A teacher without any state of its own."""

    def __init__(self, engine: object) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, images_BCHW: Tensor) -> Tensor:
        assert callable(self.engine)
        logits_BC: Tensor = self.engine(images_BCHW)
        return logits_BC


class Beside(Around):
    """One that has some too."""

    def __init__(self, engine: object) -> None:
        super().__init__(engine)
        self.teacher = make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC + super().forward(images_BCHW)


class Reading(nn.Module):
    """Its weights are read in each forward pass."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.teacher = path, make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        weights = torch.load(self.path, weights_only=True)
        logits_BC: Tensor = self.teacher(images_BCHW) + functional.linear(images_BCHW.flatten(1), weights)
        return logits_BC


def reading(folder: Path, seed: int) -> nn.Module:
    torch.save(numbers(seed), folder / f"{seed}.pt")
    return Reading(folder / f"{seed}.pt")


def frozen(seed: int) -> nn.Module:
    """Its weights are constants of its code."""
    script = torch.jit.script(make_teacher(seed=seed).eval())
    module: nn.Module = torch.jit.freeze(script)
    return module


def fingerprint_of(out: Path, teacher: nn.Module, **options: object) -> str:
    dump(out, make_options(**options), teacher=teacher)
    return read_manifest(out)[0].teacher.weights_fingerprint


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, seed: Around(Engine(seed)),
        lambda folder, seed: Beside(Engine(seed)),
        reading,
    ],
)
def test_numbers_from_outside_are_in_the_fingerprint(tmp_path: Path, make: Callable[[Path, int], nn.Module]) -> None:
    one, same, other = (make(tmp_path, seed) for seed in (0, 0, 1))

    found = [fingerprint_of(tmp_path / str(place), each) for place, each in enumerate((one, same, one, other))]

    assert found[0] == found[1] == found[2] != found[3]
    assert weights_fingerprint(one) not in found


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_constants_of_a_frozen_script_are_in_the_fingerprint(tmp_path: Path) -> None:
    found = [fingerprint_of(tmp_path / str(place), frozen(seed)) for place, seed in enumerate((0, 0, 1))]

    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kind", [Around, Beside])
def test_a_teacher_that_runs_outside_of_torch_is_known_by_what_it_gives_and_that_is_said(
    tmp_path: Path, kind: type[Around]
) -> None:
    with pytest.warns(UnseenWeights, match=r"known by what it gives for two samples.*`dump.teacher_version`"):
        found = [fingerprint_of(tmp_path / str(place), kind(OfNumpy(seed))) for place, seed in enumerate((0, 0, 1))]

    assert found[0] == found[1] != found[2]


@pytest.mark.filterwarnings("ignore::softlab.errors.UnseenWeights")
def test_a_dump_of_such_a_teacher_goes_on_with_it_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", teacher=Around(OfNumpy(0)), on_progress=stop_at(40))

    with pytest.raises(StoreMismatch, match="the teacher isn't the one that began"):
        dump(tmp_path / "store", teacher=Around(OfNumpy(1)))

    nearly = OfNumpy(0)
    nearly.weights *= 1 + 1e-6  # as on another device
    assert dump(tmp_path / "store", teacher=Around(nearly)).manifest.num_rows == 50


def test_a_version_names_a_teacher_whatever_it_gives(tmp_path: Path) -> None:
    version = {"teacher_version": "service 2026-11"}

    found = [fingerprint_of(tmp_path / str(place), Around(OfNumpy(place)), **version) for place in (0, 1)]
    other = fingerprint_of(tmp_path / "other", Around(OfNumpy(0)), teacher_version="service 2026-12")

    assert found[0] == found[1] != other


class Cached(nn.Module):
    """Keeps a table that its first forward pass computes."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher()
        self.table: Tensor | None = None

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, NUM_CLASSES).cos()
        logits_BC: Tensor = self.teacher(images_BCHW) + self.table
        return logits_BC / torch.tensor(2.0)


def test_a_teacher_of_registered_weights_alone_has_their_hash(tmp_path: Path) -> None:
    assert fingerprint_of(tmp_path / "store", make_teacher()) == weights_fingerprint(make_teacher())


def test_a_cache_is_no_number_from_outside(tmp_path: Path) -> None:
    teacher = Cached()

    found = [fingerprint_of(tmp_path / str(place), teacher) for place in (0, 1)]

    assert found == [weights_fingerprint(teacher)] * 2
