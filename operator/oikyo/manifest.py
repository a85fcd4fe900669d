"""Manifests as text: YAML read as kubectl reads it, with the line of every mistake.

PyYAML alone speaks YAML 1.1 and would take `2e-4` for text and `2026-01-01` for a date, where kubectl
takes a number and text: the desktop would accept what the cluster refuses.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import SpecError

_CORE: tuple[tuple[str, str, str], ...] = (
    ("bool", "^(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$",
     "yYnNtTfFoO"),
    ("int", "^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+)$", "-+0123456789"),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$"
     r"|^\.(nan|NaN|NAN)$", "-+.0123456789"),
    ("null", "^(~|null|Null|NULL|)$", "~nN\0"),
    ("merge", "^<<$", "<"),
)  # fmt: skip
"""Plain scalars that are not text: tag, form, first characters."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it; a key that stands twice is refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise SpecError(f"line {line}: {key} stands twice; write it once")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_flag(self, node: yaml.ScalarNode) -> bool:
        return str(node.value).lower() in ("y", "yes", "true", "on")

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        digits = str(node.value).replace("_", "")
        octal = re.fullmatch("[-+]?0[0-7]+", digits)
        return int(digits, 8 if octal else 0)


for _tag, _form, _first in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_form), ["" if c == "\0" else c for c in _first]
    )
_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.construct_flag)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)


def read(source: Path | str) -> str:
    """The text of a manifest: of the file, or `source` itself when it is text of several lines."""
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        return source
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read ({error.strerror}): name a manifest file") from None


def documents(text: str) -> list[dict[str, Any]]:
    """Every object in `text`, which is YAML or JSON, in order."""
    try:
        found = [body for body in yaml.load_all(text, Loader=_Loader) if body is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem or error.context
        raise SpecError(
            f"line {line} is not YAML ({problem}): mend the indentation or quotes"
        ) from None
    except yaml.YAMLError as error:
        raise SpecError(f"the manifest is not YAML ({error})") from None
    for body in found:
        if not isinstance(body, Mapping):
            raise SpecError(f"{body!r:.60} is no object: begin with apiVersion: oikyo.dev/v1alpha1")
    return found
