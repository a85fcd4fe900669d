"""Where data and models come from: the URIs, and the two kinds of source."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import Model, Name, ParentName, Rule, in_words

_URI_REST = "[A-Za-z0-9._~/@+=,*?-]+"
BUCKETS = ("s3", "gs", "abfs")
"""Schemes of object stores, whose credentials come from a Secret."""
_BUCKET = f"^({'|'.join(BUCKETS)})://"
_URI_RULES = (
    Rule(
        f"self.matches('^[a-z0-9]*://{_URI_REST}$') || !self.contains('://')",
        "after :// write at least one character, and only letters, digits and . _ ~ / @ + = , -",
    ),
    Rule(
        f"!self.matches('[*?]') || self.matches('{_BUCKET}')",
        "'*' and '?' stand for names in a bucket alone: write s3://bucket/path/*.jsonl, or name the "
        "folder",
    ),
    Rule(
        f"!self.matches('{_BUCKET}') || self.matches('{_BUCKET}[a-z0-9][a-z0-9._@-]+(/|$)')",
        "s3:// begins with the name of a bucket: write s3://bucket/path/rows.jsonl",
    ),
    Rule(
        "!self.matches('(^|/)[.][.](/|$)')",
        "a path may not contain '..': write the path from the root of the claim or folder",
    ),
    Rule(
        "!self.startsWith('pvc:') || self.matches('^pvc://[a-z0-9][-a-z0-9.]*(/|$)')",
        "pvc:// begins with the name of a claim: write pvc://claim/path",
    ),
)


def _uri(schemes: str, message: str, *more: Rule) -> Any:
    """The field type of a URI of one of `schemes`, written a|b|c."""
    pattern = f"^({schemes})://{_URI_REST}$"
    scheme = Rule(f"self.matches('^({schemes})://')", message)
    extra = in_words(scheme, *_URI_RULES, *more, instead_of=("pattern", "minLength"))
    return Field(min_length=6, max_length=1024, pattern=pattern, json_schema_extra=extra)


BaseUri = Annotated[
    str,
    _uri(
        "hf|pvc|file|version|s3|gs|abfs",
        "a base model is hf://org/name@revision, pvc://claim/path, s3://bucket/path, "
        "version://model/number or, on the desktop, file:///path",
        Rule(
            "!self.matches('[*?]')",
            "a base model is one folder: write its name without '*' and '?'",
        ),
        Rule(
            "!self.startsWith('version:') || self.matches('^version://[-a-z0-9]+/[1-9][0-9]{0,8}$')",
            "version:// names a model and the number of a version: write version://support-intents/3",
        ),
    ),
]
DataUri = Annotated[
    str,
    _uri(
        "pvc|file|hf|configmap|s3|gs|abfs",
        "data is pvc://claim/path, s3://bucket/path, hf://datasets/org/name@revision/path, "
        "configmap://name/key or, on the desktop, file:///path",
        Rule(
            "!self.startsWith('configmap:') || self.matches('^configmap://[^/]+/[^/]+$')",
            "configmap:// names a ConfigMap and a key: write configmap://name/key",
        ),
    ),
]


class ModelSource(Model):
    """Where training starts and what the result is called."""

    base: Annotated[
        BaseUri,
        Field(
            description="Base model: hf://org/name@revision, pvc://claim/path, s3://bucket/path, "
            "file:///path (desktop only) or version://model/number to continue from an earlier "
            "result. Weights must be safetensors. Example: hf://Qwen/Qwen3-0.6B."
        ),
    ]
    name: Annotated[
        ParentName | None,
        Field(
            description="Name under which versions of the result are kept and served; a DNS label of at "
            "most 52 characters. "
            "Default: metadata.name. Example: support-intents."
        ),
    ] = None
    secret_name: Annotated[
        Name | None,
        Field(
            description="Secret in the same namespace whose key `token` is the hub token for hf:// "
            "sources, and whose other keys open the bucket of the base model, as those of "
            "data.sources[].secretName do. Default: none. Example: hf-token."
        ),
    ] = None


Format = Literal["JSONL", "JSON", "CSV", "TSV", "Parquet", "Arrow", "Text"]
GivenFormat = Literal["Auto", "JSONL", "JSON", "CSV", "TSV", "Parquet", "Arrow", "Text"]


class DataSource(Model):
    """One file, or a folder of files."""

    uri: Annotated[
        DataUri,
        Field(
            description="File or folder of JSON Lines, JSON, CSV, TSV, Parquet, Arrow or text, also packed "
            "with gzip or zstd: pvc://claim/path, s3://bucket/path (a key, a prefix, or a pattern "
            "with * ? **; gs:// and abfs:// too), file:///path (desktop only), "
            "hf://datasets/org/name@revision/path or configmap://name/key for tiny data. "
            "Example: pvc://datasets/tickets.jsonl."
        ),
    ]
    format: Annotated[
        GivenFormat,
        Field(
            description="Format of the file, or of the files of the folder: Auto goes by content and "
            "ending and tells in status.resolved what it found. JSON is one array of objects, Text one "
            "text on each line. Default: Auto. Example: TSV."
        ),
    ] = "Auto"
    secret_name: Annotated[
        Name | None,
        Field(
            description="Secret in the same namespace that opens the bucket of an s3:// source: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, if need be AWS_SESSION_TOKEN, "
            "AWS_ENDPOINT_URL (a store other than AWS) and AWS_REGION; of gs:// and abfs:// its keys "
            "are the options of the fsspec file system. The prepare pod alone sees it. Default: none, "
            "the bucket is read as anybody may. Example: tickets-reader."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.secretName) || self.uri.matches('{_BUCKET}')",
            "secretName opens a bucket: write it with an s3://, gs:// or abfs:// source; the token of "
            "the hub stands in spec.model.secretName",
            ".secretName",
        ),
    )


_WEIGHT = "^([0-9]|[1-9][0-9]|100)([.][0-9]{1,4})?$"


class WeightedSource(DataSource):
    """A source to learn from, and how much it counts."""

    weight: Annotated[
        str,
        Field(
            max_length=8,
            pattern=_WEIGHT,
            description="How often an epoch shows each training row of the source, as text, above 0 and up "
            'to 100: "2" twice, "0.5" every other row (by content). Validation and test are not '
            'weighed. Default: "1". Example: "2.5".',
            json_schema_extra=in_words(
                Rule(
                    f"self.matches('{_WEIGHT}') && self.matches('[1-9]')",
                    'write a weight above 0 and up to 100 as text, for example "2" or "0.5"',
                ),
                instead_of=("pattern",),
            ),
        ),
    ] = "1"
