"""The reference page of a kind, made from the same schema as its CRD. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .checks import CHECKS, Check

Schema = dict[str, Any]

_INTRO = """\
# {kind}

{description}

`apiVersion: oikyo.dev/v1alpha1`, `kind: {kind}`. Every field can also be read with
`kubectl explain {plural}.spec --recursive`. Fields without a default and not marked required may be
left out. This page is made from the models by `make generate`.
"""
_TABLE = "\n| field | type | default | description |\n|---|---|---|---|\n"


def page(kind: str, schema: Schema) -> str:
    """The Markdown of one kind: its fields in `spec`, then in `status`, then its rules."""
    parts = [_INTRO.format(kind=kind, description=schema["description"], plural=kind.lower())]
    for section in ("spec", "status"):
        body = schema["properties"].get(section)
        if body:
            rows = "".join(_row(*field) for field in _fields(body, section))
            parts.append(f"\n## {section}\n{_TABLE}{rows}")
    parts.append(_rules(schema))
    return "".join(parts)


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every property below `schema`, depth first: path, schema, required."""
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, child, name in schema.get("required", ())
        yield from _fields(child, here)
        yield from _fields(child.get("items", {}), f"{here}[]")


def _row(path: str, schema: Schema, required: bool) -> str:
    default = _default(schema, required)
    description = schema["description"].replace("|", "\\|")
    return f"| `{path}` | {_type(schema)} | {default} | {description} |\n"


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value is None or value == {} else f"`{json.dumps(value)}`"


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}, at most {schema['maxItems']}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f", {low} to {high}" if low is not None and high is not None else ""
    return f"{schema['type']}{bounds}"


def _rules(schema: Schema) -> str:
    rows = dict.fromkeys(
        f"| `{path}` | {rule['message'].replace('|', chr(92) + '|')} |\n"
        for path, rule in _every_rule(schema, "")
    )
    return (
        "\n## Rules\n\nThe API server refuses an object that breaks one of these, with this sentence; "
        "`oikyo validate` does the same without a cluster.\n\n"
        f"| where | rule |\n|---|---|\n{''.join(rows)}"
    )


def _every_rule(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", "") or "metadata.name", rule
    for name, child in schema.get("properties", {}).items():
        yield from _every_rule(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from _every_rule(schema["items"], f"{path}[]")


_CHECKS = """\
# Data checks

What the prepare stage and `oikyo data check` look for in rows that can be used. (Rows that cannot,
`not-json` and so on, are [bad rows](data.md#bad-rows).) Each check counts the rows that it finds.
More than its `max`, a share of all usable rows, have the effect of its `action`:

- `Fail` refuses the job before anything is trained;
- `Warn` tells it in status, events and report;
- `Ignore` leaves the check out.

Up to `max` they are only counted. `data.checks` changes the defaults:

```yaml
data:
  sources: [{uri: "pvc://datasets/tickets.jsonl"}]
  checks:
    - {code: conflicting-answers, action: Fail, max: "0.01"}
```

The same checks without a job: `oikyo data check FILE` ([how](../how-to/check-data.md)).

| code | finds rows that | action | max | what to do |
|---|---|---|---|---|
"""
_FINDINGS = """
Every finding, with file, line, excerpt (shortened, personal data masked) and what to do, is one line
of `findings.jsonl` beside `report.json`, in the version of the data and in `runs/<run>/prepare/`;
there it stands also when the data was refused. This page is made from the checks by `make generate`.
"""


def checks_page() -> str:
    """The Markdown about spec.data.checks."""
    rows = [
        f"| `{c.code}` | {_found(c)} | {c.action} | {c.max} | {c.next_step} |\n"
        for c in CHECKS.values()
    ]
    return "".join((_CHECKS, *rows, _FINDINGS))


def _found(check: Check) -> str:
    return f"{check.description}. {check.details}" if check.details else check.description
