"""What types can't say: that paths are safe, sizes bounded, parts agree, and shards cover every row once."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, SAMPLE_ARRAYS, token_dtype
from softlab.labels.values_coding import arrays_of_values
from softlab.manifest.outputs import ClassesRecord, OutputRecord, SampledRecord, TokensReadRecord, ValuesRecord
from softlab.manifest.records import ENTRIES, SAMPLES, Manifest, StorePlan
from softlab.manifest.seen import views_fingerprint
from softlab.manifest.storage import PrecisionRecord, ShardRecord
from softlab.remote.remote import MAX_SINGLE_BYTES
from softlab.shards import MAX_FIELD_BYTES

UNSAFE_PARTS = (*'\\:*?"<>|', "//", "./", " /")
"""Of paths, a slash before and behind each: signs that mean something to some system, and names that are empty or end
in a dot or space."""

SAMPLE_BYTES = 64
"""What a sample may add to one file, where there are so many that their table is larger than an object may be."""

MAX_NESTING = 16
"""Of tables and lists in the arguments of a teacher or a transform."""

MAX_SAMPLED_CLASSES = 1 << 24
"""Tables of ranks have an entry for each; no vocabulary has so many."""

ExpectedArrays = dict[str, tuple[str | None, tuple[int, ...]]]
"""By short name: the dtype, None where it may be any, and the shape of a row."""


def find_contradiction(manifest: Manifest) -> str | None:
    """The first thing that is wrong with a finished store's manifest, as the middle of a sentence; None if nothing."""
    return (
        _find_wrong_file(manifest)
        or find_plan_contradiction(manifest)
        or _find_wrong_samples(manifest)
        or _find_wrong_cover(manifest)
    )


def find_plan_contradiction(plan: StorePlan) -> str | None:
    """The same for what is settled before the first row."""
    return _find_deep_nesting(plan) or _find_wrong_outputs(plan) or _find_wrong_shape(plan) or _find_wrong_views(plan)


def _find_deep_nesting(plan: StorePlan) -> str | None:
    """In what may hold anything: all else is as deep as its types."""
    trees = [plan.teacher.arguments, *(each.options for each in plan.inputs)]
    trees += [each.decode for each in plan.inputs if not isinstance(each.decode, UnsetType)]
    trees += [transform.arguments for transform in plan.views.transforms]
    if any(_is_deeper(tree, MAX_NESTING) for tree in trees):
        return f"arguments are nested more than {MAX_NESTING} deep"
    return None


def _is_deeper(tree: Any, levels: int) -> bool:
    if not isinstance(tree, dict | list):
        return False
    branches = tree.values() if isinstance(tree, dict) else tree
    return levels == 0 or any(_is_deeper(branch, levels - 1) for branch in branches)


def _find_wrong_file(manifest: Manifest) -> str | None:
    """Asked of all files at once: one after the other they took two thirds of the time to open a store of 100,000
    shards."""
    files = manifest.files
    paths = [file.path for file in files]
    joined = "\n".join(paths)
    if not _are_safe(joined, len(paths)):
        unsafe = next(path for path in paths if not _are_safe(path, 1))
        return f"the path {unsafe!r} is not a plain relative path inside the store"
    if len(set(joined.casefold().split("\n"))) < len(paths):
        return "two files have the same path"
    if "".join([file.blake3 for file in files]).encode().translate(None, b"0123456789abcdef"):
        return "the hash of a file is not 64 lower-case hex digits"
    limit = max(MAX_SINGLE_BYTES, SAMPLE_BYTES * manifest.source.num_samples)
    largest = max([file.bytes for file in files])
    if largest > limit:
        return f"a file would have {largest:,} bytes (limit {limit:,})"
    return None


def _are_safe(joined: str, count: int) -> bool:
    """Of so many paths, one a line. Windows drops dots and spaces at the end of a name, so that these could also make
    two paths one."""
    names = f"/{joined}/".replace("\n", "/")
    return joined.count("\n") == count - 1 and names.isprintable() and not any(part in names for part in UNSAFE_PARTS)


def _find_wrong_outputs(plan: StorePlan) -> str | None:
    names = [output.name for output in plan.outputs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        return f"two outputs have the name {repeated!r}"
    if plan.has_units != (plan.storage.shard_units is not None):
        return "room for units in shards, or outputs with units, but not both"
    groups = list(dict.fromkeys(field.group for field in plan.storage.fields))
    if groups != [group for output in plan.outputs for group in plan.groups_of(output)]:
        return f"arrays of {groups} for the outputs {names}"
    problems = (_find_wrong_arrays(plan, output) for output in plan.outputs)
    return next(filter(None, problems), None)


def _find_wrong_arrays(plan: StorePlan, output: OutputRecord) -> str | None:
    """Whether an output has the arrays that its kind needs, with the shapes and codings that it says."""
    group = plan.group_of(output)
    fields = [field for each in plan.groups_of(output) for field in plan.storage.fields_of(each)]
    # `class_ids`, and with entries `entries/class_ids`; in format 1 a feature is one array, which is its group too.
    names = [field.name.removeprefix(f"{group}/") if field.name != group else field.short_name for field in fields]
    found = {name: field.row_shape for name, field in zip(names, fields, strict=True)}
    if len(found) < len(fields):
        return f"two arrays of the output {output.name} have the same name"
    if isinstance(output, TokensReadRecord):
        arrays: ExpectedArrays = {f"samples/{name}": (dtype, ()) for name, dtype in SAMPLE_ARRAYS.items()}
        arrays["entries/token_ids"] = (token_dtype(output.vocabulary), ())
    elif isinstance(output, ValuesRecord):
        name = plan.array_of(output, "values").rpartition("/")[2]
        arrays = _arrays_of_values(output, name, row_shape=found.get(name, ()))
    else:
        problem = _find_wrong_classes(output)
        if problem is not None:
            return problem
        arrays = _arrays_of_samples() if output.is_sampled else _arrays_of_classes(output)
    arrays |= {"unit": (None, ())} if output.units else {}
    expected = {name: row_shape for name, (_, row_shape) in arrays.items()}
    if found != expected:
        return f"the output {output.name} has arrays of row shapes {found}, expected {expected}"
    for name, field in zip(names, fields, strict=True):
        dtype, _ = arrays[name]
        if dtype not in (None, field.dtype):
            return f"{field.dtype} arrays for {dtype} {name}"
    return None


def _arrays_of_classes(output: ClassesRecord) -> ExpectedArrays:
    k, num_temperatures = output.selection.k, len(output.selection.temperatures)
    arrays: ExpectedArrays = {"class_ids": (None, (k,)), "logits": (output.coding.logits, (k,))}
    arrays |= {"max_logit": (None, ()), "log_tail": (None, (num_temperatures,))}
    arrays |= {"valid": (None, ())} if output.valid else {}
    return arrays | (
        {"valid_bits": ("uint8", (-(-output.label_space.num_classes // 8),))} if output.masked is True else {}
    )


def _arrays_of_samples() -> ExpectedArrays:
    """Of an output whose rows are samples of their distributions, and have entries of their own number."""
    groups: dict[str, Mapping[str, str | None]] = {"": ROW_ARRAYS, SAMPLES: SAMPLE_ARRAYS, ENTRIES: ENTRY_ARRAYS}
    return {
        f"{group}/{name}".lstrip("/"): (dtype, ()) for group, arrays in groups.items() for name, dtype in arrays.items()
    }


def _arrays_of_values(output: ValuesRecord, name: str, *, row_shape: tuple[int, ...]) -> ExpectedArrays:
    """`name` is that of the array itself, which in format 1 was the output's."""
    arrays = arrays_of_values(output.coding, row_shape)
    return {name if each == "values" else each: array for each, array in arrays.items()}


def _find_wrong_classes(output: ClassesRecord) -> str | None:
    num_classes, selection, coding = output.label_space.num_classes, output.selection, output.coding
    class_names = output.label_space.class_names
    if output.masked is True and not output.valid:
        return "masked classes of rows that all have the same"
    if isinstance(selection, SampledRecord):
        if output.head != "softmax" or output.valid or output.absolute or output.interpolates is not False:
            return "sampled rows that aren't plain probabilities at one temperature"
        if num_classes > MAX_SAMPLED_CLASSES:
            return f"sampled rows over {num_classes:,} classes (limit {MAX_SAMPLED_CLASSES:,})"
        frequent = () if isinstance(coding.frequent, UnsetType) else coding.frequent
        if len(set(frequent)) < len(frequent) or max(frequent, default=0) >= num_classes:
            return "frequent classes that are there twice, or aren't classes"
        return None if coding.logits == "uint8" and coding.gap_step else f"sampled rows as {coding.logits}"
    if coding.frequent is not UNSET or coding.gaps_first is not UNSET:
        return "a coding of sampled rows for rows that aren't"
    if selection.k > num_classes:
        return f"k = {selection.k} of {num_classes} classes"
    if class_names is not None and len(class_names) != num_classes:
        return f"{len(class_names)} class names for {num_classes} classes"
    if list(selection.temperatures) != sorted(set(selection.temperatures)):
        return f"the temperatures {selection.temperatures} don't ascend"
    if (coding.logits == "uint8") != (coding.gap_step is not None):
        return f"a gap_step of {coding.gap_step} for {coding.logits} logits"
    return None


def _find_wrong_shape(plan: StorePlan) -> str | None:
    for field in plan.storage.fields:
        capacity = plan.shard_capacity(field)
        if field.row_bytes * capacity > MAX_FIELD_BYTES:
            return f"a shard of {field.name} would be {field.row_bytes * capacity:,} bytes (limit 1 GiB)"
        if capacity % field.chunk_rows:
            return f"chunks of {field.chunk_rows} rows don't divide shards of {capacity} rows"
    return None


def _find_wrong_views(plan: StorePlan) -> str | None:
    views = plan.views
    found = views_fingerprint(seed=views.seed, transforms=views.transforms, mixing=views.mixing)
    if found != views.fingerprint:
        return f"its view recipe has the fingerprint {found[:12]}, not the recorded {views.fingerprint[:12]}"
    if views.mixing is not None and views.mixing.mixup is None and views.mixing.cutmix is None:
        return "its views are mixed, but neither by MixUp nor by CutMix"
    chosen_from = plan.source.chosen_from
    if chosen_from is not None and chosen_from < plan.source.num_samples:
        return f"{plan.source.num_samples} samples chosen from {chosen_from}"
    if chosen_from is not None and views.mixing is not None:
        return "its views are mixed with any of the teacher's samples, of which it holds a part"
    return None


def _find_wrong_samples(manifest: Manifest) -> str | None:
    """Format 3 is that of stores whose table of samples has several parts."""
    has_parts, found = manifest.further_samples is not UNSET, len(manifest.samples_files)
    if has_parts != (manifest.format_version == 3):
        return f"a table of samples of {found} parts in format version {manifest.format_version}"
    if found != manifest.samples_grid.num_shards:
        return f"{found} parts of the table of samples, expected {manifest.samples_grid.num_shards}"
    return None


def _find_wrong_cover(manifest: Manifest) -> str | None:
    grid = manifest.grid
    expected_digest_files = grid.num_views if manifest.views.digest_every else 0
    if len(manifest.digest_files) != expected_digest_files:
        return f"{len(manifest.digest_files)} files of pixel digests, expected {expected_digest_files}"
    if len(manifest.shards) != grid.num_shards:
        return f"{len(manifest.shards)} shards, expected {grid.num_shards}"
    for (view, start, stop), record in zip(grid.extents(), manifest.shards, strict=True):
        if record.start != start or record.stop != stop or record.view != view:
            name = grid.shard_at(view, start).name
            return f"rows {record.start}..{record.stop} of view {record.view} stand where {name} belongs"
        if not isinstance(record.precisions, UnsetType) and not _are_within(record, record.precisions):
            return f"precisions of other samples than {start}..{stop}, or of some of them twice"
        if not isinstance(record.cut_off, UnsetType) and record.cut_off > stop - start:
            return f"{record.cut_off:,} samples of {start}..{stop} that are cut off"
        if not isinstance(record.tokens, UnsetType) and bool(record.tokens.cut_off) != bool(record.cut_off):
            return f"{record.tokens.cut_off:,} tokens cut off of {record.cut_off or 0} samples of {start}..{stop}"
    return _find_wrong_statistics(manifest)


def _are_within(shard: ShardRecord, spans: Sequence[PrecisionRecord]) -> bool:
    ends = [shard.start, *(end for span in spans for end in (span.start, span.stop)), shard.stop]
    return ends == sorted(ends) and all(span.start < span.stop for span in spans)


def _find_wrong_statistics(manifest: Manifest) -> str | None:
    """Each output of kind `classes` has its own, in the store and in each shard, one captured mass a temperature."""
    grid = manifest.grid
    names = {output.name for output in manifest.classes}
    if any(each.keys() != names for each in (manifest.statistics, *(shard.statistics for shard in manifest.shards))):
        return f"statistics of other outputs than {sorted(names)}"
    for output in manifest.classes:
        own = manifest.statistics[output.name]
        if not output.units and own.rows != grid.num_views * grid.num_samples:
            return f"statistics of {own.rows} rows, expected {grid.num_views * grid.num_samples}"
        lengths = {len(shard.statistics[output.name].captured_mass) for shard in manifest.shards}
        if lengths | {len(own.captured_mass)} != {len(output.selection.temperatures)}:
            return "statistics without one captured mass a temperature"
        costs = [sums for sums in (own.coding_kl, own.coding_shift) if sums is not UNSET]
        if any(len(sums) != len(output.selection.temperatures) for sums in costs):
            return "statistics without one cost of the coding a temperature"
        if (own.entries is not UNSET) != output.is_sampled:
            return "a count of entries, or rows that are sampled, but not both"
    return None
