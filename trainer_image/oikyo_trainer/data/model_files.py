"""Is this folder a base model that may be loaded? Safetensors only, no code, nothing outside it.

Headers are read, weights are not: a check of many gigabytes takes milliseconds and no memory.
"""

from __future__ import annotations

import json
import math
import struct
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import Refused
from .findings import excerpt

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "NOTICE*")
UNWANTED = (
    "onnx/*",
    "openvino/*",
    "original/*",
    "coreml/*",
    ".*",
    "*/.*",
    "manifest.json",
    "record.json",
)
"""Other runtimes' copies of the weights, hidden files, our own manifest and a version's record."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
)
DEEPEST = 4
LARGEST_HEADER = 100 << 20
LARGEST_JSON = 64 << 20
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ"), 8),
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
CONVERT = (
    "Convert it once where you trust it: AutoModel.from_pretrained(FOLDER)"
    ".save_pretrained(NEW), which writes safetensors"
)


def wanted(name: str) -> bool:
    """Whether a file of the model folder, by its relative name, is part of the base model."""
    if any(fnmatch(name, pattern) for pattern in UNWANTED):
        return False
    return any(fnmatch(PurePosixPath(name).name, pattern) for pattern in WANTED)


def check_model(folder: Path, uri: str) -> dict[str, Path]:
    """The files of the base model, by relative name; Refused when it is none or is not safe."""
    everything = _walk(folder, folder, uri)
    files = {name: path for name, path in everything.items() if wanted(name)}
    config = _config(folder, uri, files)
    _refuse_code(uri, "config.json", config)
    if "tokenizer_config.json" in files:
        tokenizer = _json(files["tokenizer_config.json"], f"{uri}/tokenizer_config.json")
        _refuse_code(uri, "tokenizer_config.json", tokenizer)
    _check_weights(uri, everything, files)
    if not any(all(part in files for part in parts) for parts in TOKENIZERS):
        raise _refuse(
            f"{uri} has no tokenizer (tokenizer.json, tokenizer.model or vocab.txt)",
            "Save the tokenizer beside the weights: tokenizer.save_pretrained(FOLDER)",
        )
    return files


def _refuse(message: str, step: str) -> Refused:
    return Refused("InvalidModel", message, next_step=step)


def _walk(folder: Path, root: Path, uri: str, depth: int = 0) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir(), key=lambda p: p.name):
        name = entry.relative_to(root).as_posix()
        try:
            path = entry.resolve(strict=True)
        except (OSError, RuntimeError):
            raise _refuse(f"{uri}/{name} is a link to nothing", "Remove it") from None
        if not path.is_relative_to(root) and not _hub_cache(path, root):
            raise _refuse(
                f"{uri}/{name} is a link that leads out of the model's folder",
                "Put the file itself there instead of the link",
            )
        if entry.is_symlink() and path.is_dir():
            continue  # a link to a folder could lead in a circle; its files are named elsewhere
        if path.is_dir():
            found |= _walk(entry, root, uri, depth + 1) if depth < DEEPEST else {}
        elif path.is_file():
            found[name] = path
        elif wanted(name):
            raise _refuse(f"{uri}/{name} is no plain file", "Put the file itself there")
    return found


def _hub_cache(path: Path, root: Path) -> bool:
    """The hub's own cache links snapshots/<revision>/FILE to blobs/<digest> of the same repository."""
    repository = root.parent.parent
    return root.parent.name == "snapshots" and path.parent == repository / "blobs"


def _config(folder: Path, uri: str, files: dict[str, Path]) -> dict[str, Any]:
    if "config.json" in files:
        config = _json(files["config.json"], f"{uri}/config.json")
        if not isinstance(config.get("model_type"), str):
            raise _refuse(
                f"{uri}/config.json names no model_type",
                "Use a folder written by transformers' save_pretrained",
            )
        return config
    if "adapter_config.json" in files:
        raise _refuse(
            f"{uri} is an adapter without its base model",
            "Name the base model, or merge the adapter into it: model.merge_and_unload()",
        )
    below = sorted(path.parent.name for path in folder.glob("*/config.json"))
    hint = f"did you mean {uri.rstrip('/')}/{below[0]}?" if len(below) == 1 else ""
    raise _refuse(
        f"{uri} has no config.json: it is no model folder",
        hint.capitalize() if hint else "Name the folder that holds config.json and the weights",
    )


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError("too large")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refuse(f"{name} is not JSON: {excerpt(str(error))}", "Fetch it again") from None
    if not isinstance(value, dict):
        raise _refuse(f"{name} is no JSON object", "Fetch it again")
    return value


def _refuse_code(uri: str, name: str, value: dict[str, Any]) -> None:
    if value.get("auto_map"):
        raise Refused(
            "RemoteCode",
            f"{uri}/{name} has auto_map: the model brings its own code, and trust_remote_code is off",
            next_step="Use a model of an architecture that transformers knows",
        )


def _check_weights(uri: str, everything: dict[str, Path], files: dict[str, Path]) -> None:
    weights = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    if not weights:
        pickled = sorted(n for n in everything if PurePosixPath(n).suffix.lower() in PICKLED)
        if pickled:
            raise Refused(
                "PickledWeights",
                f"{uri} holds only pickled weights ({pickled[0]}): loading them would run whatever "
                "code they carry; only safetensors are loaded",
                next_step=CONVERT,
            )
        raise _refuse(f"{uri} has no weights (*.safetensors)", "Put model.safetensors there")
    for name in weights:
        check_safetensors(files[name], f"{uri}/{name}")
    for name in sorted(files):
        if name.endswith(".safetensors.index.json") and "/" not in name:
            _check_index(files[name], f"{uri}/{name}", weights)


def _check_index(path: Path, name: str, weights: list[str]) -> None:
    shards = _json(path, name).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
        raise _refuse(f"{name} has no weight_map", "Fetch it again")
    if missing := sorted(set(shards.values()) - set(weights)):
        raise _refuse(f"{name} names {excerpt(missing[0])}, which is not there", "Fetch it again")


def check_safetensors(path: Path, name: str) -> None:
    """Refuse a file whose header does not describe exactly the bytes behind it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise _broken(name, "its header is cut off or too large")
        body = file.read(length)
    try:
        header = json.loads(body)
        spans = sorted(_span(n, t) for n, t in header.items() if n != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _broken(name, excerpt(str(error))) from None
    end = 0
    if not spans:
        raise _broken(name, "it holds no tensor")
    for (_, before), (begin, _) in pairwise([(0, 0), *spans]):
        if begin != before:
            raise _broken(name, f"its tensors overlap or leave a gap at byte {begin}")
    end = spans[-1][1]
    if end != size - 8 - length:
        raise _broken(name, f"it should have {end + 8 + length} bytes and has {size}")


def _span(name: str, tensor: dict[str, Any]) -> tuple[int, int]:
    begin, end = (_whole(value) for value in tensor["data_offsets"])
    bits = BITS[tensor["dtype"]] * math.prod(_whole(value) for value in tensor["shape"])
    if end - begin != (bits + 7) // 8:
        raise ValueError(f"the tensor {name[:80]} has the wrong number of bytes")
    return begin, end


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("an offset or a shape is no whole number")
    return value


def _broken(name: str, what: str) -> Refused:
    return Refused(
        "InvalidModel",
        f"{name} is no whole safetensors file: {what}",
        next_step="Fetch or copy it again; it may have been cut off",
    )
