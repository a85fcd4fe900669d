"""croissant.json of a version: the MLCommons Croissant 1.0 metadata, as JSON-LD, beside the card.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html. What oikyo cannot know (licence, creator,
date of publication) is left out, and mlcroissant warns of it: who publishes a version adds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from .split import SIDES

FILE = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that mlcroissant 1.1.1 holds to be the standard one, word for word."""
MEANINGS = {
    "id": "Hash of the row's input and answer.",
    "source": "File and line that the row comes from.",
    "synthetic": "How data.augment made the row of that one; null for a row of a source.",
    "learn.times": "How often an epoch of a training shows the row.",
    "learn.fold": "Fold of the cross-validation, from 0.",
}


def croissant(
    task: str,
    digest: str,
    rows: Mapping[str, int],
    files: Mapping[str, Mapping[str, Any]],
    schema: Any,  # pyarrow is untyped
) -> dict[str, Any]:
    """The metadata of a version whose splits have the `rows`, the `files` and the Arrow `schema`."""
    used = [side for side in SIDES if rows[side]]
    counts = ", ".join(f"{rows[side]} {side}" for side in used)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": f"oikyo-{digest.removeprefix('sha256:')[:16]}",
        "description": f"Rows that oikyo prepared for {task}: {counts}. Digest {digest}.",
        "version": "1.0.0",
        "identifier": digest,
        "distribution": [_file(f"{side}.parquet", files[f"{side}.parquet"]) for side in used],
        "recordSet": [_records(side, schema) for side in used],
    }


def _file(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{facts['size']} B",
        "encodingFormat": "application/x-parquet",
        "sha256": facts["sha256"],
    }


def _records(side: str, schema: Any) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": side,
        "name": side,
        "description": f"The rows of the {side} split.",
        "key": {"@id": f"{side}/id"},
        "field": list(_fields(side, schema)),
    }


def _kind(type_: Any) -> str:
    if pa.types.is_floating(type_):
        return "sc:Float"
    return "sc:Boolean" if pa.types.is_boolean(type_) else "sc:Text"


def _fields(side: str, schema: Any) -> Iterator[dict[str, Any]]:
    for column in schema:
        name = f"{side}/{column.name}"
        source = {
            "fileObject": {"@id": f"{side}.parquet"},
            "extract": {"column": column.name},
        }
        field = {
            "@type": "cr:Field",
            "@id": name,
            "name": name,
            "description": MEANINGS.get(column.name, f"Column {column.name}."),
        }
        if not pa.types.is_list(column.type):
            yield {**field, "dataType": _kind(column.type), "source": source}
            continue
        parts = [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{part}",
                "name": f"{name}/{part}",
                "description": f"The {part} of a turn.",
                "dataType": "sc:Text",
                "source": {**source, "transform": {"jsonPath": part}},
            }
            for part in ("role", "content")
        ]
        yield {**field, "repeated": True, "subField": parts}
