"""The Croissant 1.0 description of a published store (JSON-LD), which dataset search engines and loaders read.

Croissant asks for the SHA-256 of every single file, of which a store may have 100,000. So it names three things: the
table of samples and the manifest, each with its own hash, and the store's folder, under that of the manifest, which in
turn holds the BLAKE3 of every file in it. Addresses are relative to the description's own place, so that a copied or
mirrored catalogue describes itself.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from softlab.manifest import MANIFEST_NAME, FieldRecord, Manifest
from softlab.manifest.versions import VersionRecord
from softlab.remote.address import Address
from softlab.shards import Dtype
from softlab.store.published import store_path

TERMS = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in TERMS.split()},
}

DATA_TYPES: dict[Dtype, str] = {
    "uint8": "cr:UInt8",
    "uint16": "cr:UInt16",
    "uint32": "cr:UInt32",
    "float16": "cr:Float16",
    "float32": "cr:Float32",
}
PARQUET = "application/x-parquet"
SAMPLES_FILE, SAMPLES_PARTS = "samples-file", "samples-parts"


def render_croissant(
    manifest: Manifest, version: VersionRecord, *, address: Address | None, sha256: Mapping[str, str]
) -> bytes:
    """JSON. `address` of this version, where others can reach it; `sha256` of the manifest and of the table of samples,
    by path, where that is one file."""
    group = manifest.group_of(manifest.classes[0]) if manifest.classes else ""
    labels = manifest.storage.fields_of(group) if manifest.storage.format == "parquet" else ()
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": version.name,
        "description": _describe(manifest, version),
        "version": f"{version.version}.0.0",
        "license": version.licence,
        "datePublished": version.published,
        "keywords": ["soft labels", "knowledge distillation", "softlab"],
        "citeAs": f"{version.name}@{version.version}, BLAKE3 {version.digest}",
        "distribution": [
            *_files(manifest, version, sha256=sha256),
            *([_label_parts(group)] if labels else []),
        ],
        "recordSet": [_samples(manifest), *([_labels(labels)] if labels else [])],
    }
    if address is not None:
        described["url"] = f"{address.root}/index.html#{address.name}@{address.version}"
    return msgspec.json.format(msgspec.json.encode(described)) + b"\n"


def _describe(manifest: Manifest, version: VersionRecord) -> str:
    terms = f" The teacher's licence on its outputs: {version.terms}" if version.terms else ""
    about = (
        f"{manifest.teacher.model} for {manifest.source.num_samples:,} samples of {manifest.source.name} in "
        f"{manifest.views.num_views} view(s)"
    )
    if not manifest.classes:
        names = ", ".join(output.name for output in manifest.values)
        return f"Teacher outputs for knowledge distillation: {names} of {about}.{terms}"
    labels = manifest.classes[0]
    if labels.is_sampled:
        return f"Soft labels for knowledge distillation: the {labels.selection.kept} of {about}.{terms}"
    return (
        f"Soft labels for knowledge distillation: the {labels.selection.kept} of {about}, and the probability of "
        f"all other classes at temperatures {', '.join(f'{t:g}' for t in labels.selection.temperatures)}.{terms}"
    )


def _files(manifest: Manifest, version: VersionRecord, *, sha256: Mapping[str, str]) -> list[dict[str, Any]]:
    root = f"../{store_path(version.name, version.digest).removeprefix(f'{version.name}/')}"
    return [
        {
            "@type": "cr:FileObject",
            "@id": "manifest",
            "name": MANIFEST_NAME,
            "description": f"Names every file of the store with its BLAKE3. Its own BLAKE3 is {version.digest}.",
            "contentUrl": f"{root}/{MANIFEST_NAME}",
            "contentSize": f"{version.manifest_bytes} B",
            "encodingFormat": "application/json",
            "sha256": sha256[MANIFEST_NAME],
        },
        *([] if _has_parts(manifest) else [_samples_file(manifest, root, sha256=sha256)]),
        {
            "@type": "cr:FileObject",
            "@id": "store",
            "name": "store",
            "description": f"The folder of a softlab store of format {manifest.storage.format}. The hash is that of "
            f"its {MANIFEST_NAME}, which vouches for all else in it.",
            "contentUrl": root,
            "contentSize": f"{version.summary.num_bytes} B",
            "encodingFormat": "application/x-directory",
            "sha256": sha256[MANIFEST_NAME],
        },
        *([_samples_parts(manifest)] if _has_parts(manifest) else []),
    ]


def _has_parts(manifest: Manifest) -> bool:
    return len(manifest.samples_files) > 1


def _samples_file(manifest: Manifest, root: str, *, sha256: Mapping[str, str]) -> dict[str, Any]:
    samples = manifest.samples_file
    return {
        "@type": "cr:FileObject",
        "@id": SAMPLES_FILE,
        "name": samples.path,
        "contentUrl": f"{root}/{samples.path}",
        "contentSize": f"{samples.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": sha256[samples.path],
    }


def _samples_parts(manifest: Manifest) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": SAMPLES_PARTS,
        "name": SAMPLES_PARTS,
        "containedIn": {"@id": "store"},
        "encodingFormat": PARQUET,
        "includes": f"{manifest.samples_file.path.rpartition('/')[0]}/part-*.parquet",
    }


def _label_parts(group: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "label-parts",
        "name": "label-parts",
        "containedIn": {"@id": "store"},
        "encodingFormat": PARQUET,
        "includes": f"{group}/view=*/part-*.parquet",
    }


def _samples(manifest: Manifest) -> dict[str, Any]:
    source = {"fileSet": {"@id": SAMPLES_PARTS}} if _has_parts(manifest) else {"fileObject": {"@id": SAMPLES_FILE}}
    columns = {"sample": "sc:Integer", "key": "sc:Text", "target": "sc:Integer"}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One a sample: its number, its key in the source, and its hard target where that is known.",
        "key": {"@id": "samples/sample"},
        "field": [_field("samples", column, data_type, source=source) for column, data_type in columns.items()],
    }


def _labels(fields: tuple[FieldRecord, ...]) -> dict[str, Any]:
    source = {"fileSet": {"@id": "label-parts"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "One a sample in each view: the kept classes, the largest first, their logits less the row's "
        "largest, that one, and the natural log of the tail, one value a temperature.",
        "field": [
            _field("labels", "sample", "sc:Integer", source=source),
            *(
                _field(
                    "labels", field.short_name, DATA_TYPES[field.dtype], source=source, repeated=bool(field.row_shape)
                )
                for field in fields
            ),
        ],
    }


def _field(
    record_set: str, column: str, data_type: str, *, source: Mapping[str, Any], repeated: bool = False
) -> dict[str, Any]:
    field = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column}",
        "name": column,
        "dataType": data_type,
        "source": {**source, "extract": {"column": column}},
    }
    return field | ({"repeated": True} if repeated else {})
