"""Views of samples, whatever their modality: how they are described, drawn and told apart."""

# Shape letters: B rows in a batch, N samples.

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from softlab.errors import InvalidOption, check_option
from softlab.indices import RecipeIndex
from softlab.manifest import MixingRecord, TransformRecord, ViewsRecord, views_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEED = 2**63 - 1
"""What JSON readers of every language hold."""

Example = Any
"""A decoded field of one sample, in the form that its modality has chosen."""

ReadExample = Callable[[int], Example]
"""From a store index."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One view of a sample, after the random part."""

    example: Example
    partner: int
    """Store index of the sample it is mixed with; itself where it is not mixed."""

    weight: float
    """Its own share; the partner has the rest."""


class ViewOptions(Protocol):
    """A frozen dataclass: the random part of a modality's views, as a recipe's [augment] gives it.

    Where it has options, its class attribute `modality` names the modality that these are options of.
    """

    @property
    def seed(self) -> int: ...

    @property
    def is_random(self) -> bool:
        """Whether views differ at all."""
        ...

    def parse(self) -> tuple[TransformRecord, ...]:
        """The transforms with all of their arguments. Raises InvalidOption."""
        ...

    def parse_mixing(self) -> MixingRecord | None:
        """How samples are mixed; None where they aren't."""
        ...


class Replay(Protocol):
    """Makes the views of one data set; holds no state, and can be sent to other processes.

    View v of sample n is a pure function of the seed, v and n: the same in any worker, batch, order and process.
    """

    @property
    def mixes(self) -> bool: ...

    def in_recipe(self, store_B: list[int], views: list[int]) -> list[tuple[int, int]]:
        """Recipe index and view of the recipe of each of B rows. Both differ from the store's where the store
        was pulled with a part of what the teacher saw."""
        ...

    def views(self, store_B: list[int], views: list[int], read: ReadExample) -> list[View]:
        """One view of each of B samples; each example read is left as it is, and so is any global random state."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NoViews:
    """View options of a modality that has none: every view is the sample itself."""

    @property
    def seed(self) -> int:
        return 0

    @property
    def is_random(self) -> bool:
        return False

    def parse(self) -> tuple[TransformRecord, ...]:
        return ()

    def parse_mixing(self) -> MixingRecord | None:
        return None


class AsTheyAre:
    """The replay of views without anything random: every view is the sample itself."""

    mixes = False

    def __init__(self, record: ViewsRecord | None = None, *, recipe_N: RecipeIndex | None = None) -> None:
        """Raises InvalidOption for a record of random views."""
        if record is not None and (record.transforms or record.mixing is not None):
            raise InvalidOption(
                f"the views are random ({describe_views(record)}), and this modality has no such views. Choose a "
                f"store of samples as they are, or the modality that its teacher had."
            )
        self._first, self._recipe_N = record.first if record else 0, recipe_N

    def in_recipe(self, store_B: list[int], views: list[int]) -> list[tuple[int, int]]:
        return in_recipe(store_B, views, first=self._first, recipe_N=self._recipe_N)

    def views(self, store_B: list[int], views: list[int], read: ReadExample) -> list[View]:
        return [View(read(index), index, 1.0) for index in store_B]


ChangeExample = Callable[[Example, tuple[TransformRecord, ...], int, int, int], Example]
"""View v of an example by transforms: of the seed, v and the recipe index, in this order."""


class EachAlone:
    """The replay of views in which each sample is changed for itself, or is as it is where there are no transforms.

    It holds no state, and can be sent to other processes.
    """

    mixes = False

    def __init__(
        self,
        record: ViewsRecord,
        *,
        change: ChangeExample,
        arguments: "Mapping[str, ArgumentChecks]",
        samples: str,
        recipe_N: RecipeIndex | None = None,
    ) -> None:
        """`arguments` has the name of each transform, and the checks on its arguments. Raises InvalidOption for mixed
        views, and for transforms that these `samples`, in words, don't have."""
        if record.mixing is not None or not all(has_arguments(each, arguments) for each in record.transforms):
            raise InvalidOption(
                f"the views are random ({describe_views(record)[:300]}), and {samples} have no such views. Choose a "
                f"store of {samples} as they are, or the modality that its teacher had."
            )
        self._transforms, self._seed, self._change = record.transforms, record.seed, change
        self._first, self._recipe_N = record.first, recipe_N

    def in_recipe(self, store_B: list[int], views: list[int]) -> list[tuple[int, int]]:
        """As `Replay` says."""
        return in_recipe(store_B, views, first=self._first, recipe_N=self._recipe_N)

    def views(self, store_B: list[int], views: list[int], read: ReadExample) -> list[View]:
        """One view of each of B samples; each example read is left as it is."""
        rows = zip(store_B, self.in_recipe(store_B, views), strict=True)
        return [
            View(self._changed(read(store_index), view, recipe_index), store_index, 1.0)
            for store_index, (recipe_index, view) in rows
        ]

    def _changed(self, example: Example, view: int, recipe_index: int) -> Example:
        if not self._transforms:
            return example
        return self._change(example, self._transforms, self._seed, view, recipe_index)


def check_seed(seed: int) -> None:
    """Raises InvalidOption for a seed of views that a manifest can't hold."""
    check_option(0 <= seed <= MAX_SEED, "augment.seed", seed, "0 to 2^63 - 1")


ArgumentChecks = Mapping[str, Callable[[object], bool]]
"""By name, for each argument of a transform: whether a value is right."""


def number_in(low: float, high: float) -> Callable[[object], bool]:
    """The check of an argument that is a number from `low` to `high`."""
    return lambda value: isinstance(value, int | float) and low <= value <= high


def has_arguments(record: TransformRecord, known: Mapping[str, ArgumentChecks]) -> bool:
    """Whether it is a known transform with right arguments. A manifest may be somebody else's: nothing is drawn with
    others."""
    checks = known.get(record.name)
    if checks is None or record.arguments.keys() != checks.keys():
        return False
    return all(check(record.arguments[name]) for name, check in checks.items())


def in_recipe(
    store_B: list[int], views: list[int], *, first: int, recipe_N: RecipeIndex | None
) -> list[tuple[int, int]]:
    """Recipe index and view of the recipe of each of B rows of a store whose view 0 is the recipe's view `first`."""
    recipe_B = store_B if recipe_N is None else recipe_N[store_B].tolist()
    return [(recipe_index, first + view) for recipe_index, view in zip(recipe_B, views, strict=True)]


def draw(seed: int, view: int, recipe_index: int, *, purpose: bytes) -> int:
    """128 bits for one view; a change of a single one of its arguments changes about half of them."""
    data = struct.pack("<3q", seed, view, recipe_index)
    return int.from_bytes(blake2b(data, digest_size=16, person=purpose).digest(), "little")


def tensor_digest(tensor: "Tensor") -> int:
    """64 bits that stand for a view's values: BLAKE3 of its shape and bytes, truncated."""
    import torch  # here, because `softlab inspect` describes views without it

    shape = struct.pack(f"<{tensor.ndim}q", *tensor.shape)
    values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return int.from_bytes(blake3(shape).update(values.data).digest(8), "little")


def record_views(options: ViewOptions, *, num_views: int, digest_every: int) -> ViewsRecord:
    """What a manifest says about the views."""
    transforms, mixing = options.parse(), options.parse_mixing()
    seed = options.seed if options.is_random else 0
    return ViewsRecord(
        num_views=num_views,
        seed=seed,
        transforms=transforms,
        mixing=mixing,
        fingerprint=views_fingerprint(seed=seed, transforms=transforms, mixing=mixing),
        digest_every=digest_every,
    )


def describe_views(record: ViewsRecord) -> str:
    """The random part in one line."""
    from softlab.modalities.images.views.described import describe_transform  # views of other kinds don't need it

    parts = [describe_transform(transform) for transform in record.transforms]
    mixing = record.mixing
    if mixing is not None:
        alphas = {"MixUp": mixing.mixup, "CutMix": mixing.cutmix}
        given = [f"{name}(alpha={alpha:g})" for name, alpha in alphas.items() if alpha is not None]
        parts += [*given[:-1], given[-1] + _describe_shares(mixing)]
    return f"{', '.join(parts)} (seed {record.seed})" if parts else "samples as they are"


def _describe_shares(mixing: MixingRecord) -> str:
    """Nothing where every view is mixed, and cut as often as blended."""
    both = mixing.mixup is not None and mixing.cutmix is not None
    cut = f", {mixing.cutmix_share:g} of them cut" if both and mixing.cutmix_share != 0.5 else ""
    return f" for {mixing.share:g} of the views{cut}" if cut or mixing.share != 1 else ""
