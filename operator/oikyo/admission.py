"""The API server's door, without an API server: the same schema, the same CEL, better sentences.

`check` takes a manifest as a person wrote it and answers as the API server would under strict
validation: it fills the defaults, judges the generated schema, then evaluates the rules. The desktop
uses it in place of the API server; `oikyo validate` uses it before one is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import structure
from .errors import SpecError
from .manifest import documents, read
from .structure import Violation

if TYPE_CHECKING:
    import cel

    from .api.finetunejob import FineTuneJob

Manifest = dict[str, Any]
COMMAND_LINE = "cel.cli"


def check(manifest: Manifest, old: Manifest | None = None) -> list[Violation]:
    """What the API server would say against creating `manifest`, or against updating `old` to it."""
    wrong_head = list(structure.head(manifest, _kinds()))
    if wrong_head:
        return wrong_head
    schema = _kinds()[manifest["kind"]]
    # The status of a manifest is ignored: it has its own subresource and its own writer.
    new = with_defaults({key: value for key, value in manifest.items() if key != "status"})
    before = with_defaults(old) if old is not None else None
    found = [*structure.metadata(new["metadata"]), *structure.judge(schema, new, "")]
    return found + list(_judge_rules(schema, new, before, "", _broken(found)))


def schema_of(kind: str) -> dict[str, Any]:
    """The schema by which manifests of `kind` are judged. Shared: callers must not change it."""
    return _kinds()[kind]


def with_defaults(manifest: Manifest) -> Manifest:
    """A copy of `manifest` as the API server would store it."""
    from .api.schema import defaulted

    full: Manifest = defaulted(_kinds()[manifest["kind"]], manifest)
    return full


def load(source: Path | str) -> FineTuneJob:
    """The one FineTuneJob in a file (or in text of several lines), with its defaults.

    Raises SpecError with one line for everything that is wrong.
    """
    from .api.finetunejob import FineTuneJob

    manifest = _only_job(documents(read(source)), source)
    if violations := check(manifest):
        raise SpecError("\n".join(map(str, violations)))
    full = with_defaults(manifest)
    full.pop("status", None)
    return FineTuneJob.model_validate(full)


def _only_job(found: list[Manifest], source: Path | str) -> Manifest:
    jobs = [body for body in found if body.get("kind") == "FineTuneJob"]
    if len(found) == 1 and not jobs:
        return found[0]  # its head says what is wrong with it
    if len(jobs) != 1:
        where = source if isinstance(source, Path) or "\n" not in source else "the manifest"
        raise SpecError(f"{where} holds {len(jobs)} FineTuneJobs; write exactly one")
    return jobs[0]


@cache
def _kinds() -> dict[str, dict[str, Any]]:
    """Schema of each kind."""
    from .api.finetunejob import FineTuneJob
    from .api.modelendpoint import ModelEndpoint
    from .api.modelversion import ModelVersion
    from .api.schema import structural

    return {
        model.__name__: structural(model) for model in (FineTuneJob, ModelVersion, ModelEndpoint)
    }


def _broken(violations: list[Violation]) -> frozenset[str]:
    """Every path at or above a structural mistake: rules about it could not be evaluated."""
    paths = set()
    for violation in violations:
        path = violation.path
        while path:
            paths.add(path)
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
    return frozenset(paths)


def _judge_rules(
    schema: dict[str, Any], value: Any, old: Any, path: str, broken: frozenset[str]
) -> Iterator[Violation]:
    """Evaluate the rules of `schema` and of everything below it that is there."""
    if path not in broken:
        for rule in schema.get("x-kubernetes-validations", ()):
            if not _holds(rule["rule"], value, old):
                yield _said(rule, path, value)
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                before = old.get(name) if isinstance(old, dict) else None
                below = f"{path}.{name}" if path else name
                yield from _judge_rules(child, value[name], before, below, broken)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _judge_rules(schema.get("items", {}), item, None, f"{path}[{index}]", broken)


def _said(rule: dict[str, str], path: str, value: Any) -> Violation:
    """The violation of a rule, at the field that it points at."""
    field = rule.get("fieldPath", "")
    for name in field.split(".")[1:]:
        value = value.get(name, structure.MISSING) if isinstance(value, dict) else structure.MISSING
    where = (path + field).lstrip(".")
    if not where:
        where, value = "metadata.name", value["metadata"].get("name", "")
    return Violation(where, value, rule["message"], rule=rule["rule"])


def _holds(rule: str, value: Any, old: Any) -> bool:
    """Whether a rule is kept; one that cannot be evaluated is not, as on the API server."""
    if "oldSelf" in rule and old is None:
        return True
    variables = {"self": value, "oldSelf": old} if "oldSelf" in rule else {"self": value}
    try:
        return bool(_compiled(rule).execute(variables))
    except (RuntimeError, TypeError, ValueError):
        return False


@cache
def _compiled(rule: str) -> cel.Program:
    return _engine().compile(rule)


@cache
def _engine() -> Any:  # the module cel, whose types are taken as they come
    """The CEL library; only who admits manifests pays for it.

    Its package imports its command line, and with it prompt_toolkit and pygments: 0.2 CPU-seconds of an
    `oikyo run` instead of 0.005. An empty module stands in for that command line meanwhile.
    """
    given = sys.modules.get(COMMAND_LINE)
    sys.modules[COMMAND_LINE] = given or ModuleType(COMMAND_LINE)
    try:
        import cel
    finally:
        if given is None:
            del sys.modules[COMMAND_LINE]
    return cel
