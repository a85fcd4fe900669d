"""The CustomResourceDefinitions, made from the models, and the files they are checked in as.

python -m oikyo.api.crd            print them
python -m oikyo.api.crd --write    write crds/, charts/oikyo/files/crds/ and docs/reference/
python -m oikyo.api.crd --check    exit 1 and name each file that is not what the models say
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from .base import GROUP, VERSION
from .finetunejob import FineTuneJob
from .modelendpoint import ModelEndpoint
from .modelversion import ModelVersion
from .reference import checks_page, page
from .schema import structural

Column = tuple[str, str, str, str]
"""Heading, type, JSONPath, description."""

_AGE: Column = ("AGE", "date", ".metadata.creationTimestamp", "Time since it was created.")


@dataclass(frozen=True)
class Kind:
    """What a CRD says beside its schema."""

    model: type[BaseModel]
    short: str
    columns: tuple[Column, ...]
    wide: tuple[Column, ...] = ()
    """Columns of `-o wide`."""
    selectable: tuple[str, ...] = ()
    """Fields for `kubectl get --field-selector`."""
    scale: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def plural(self) -> str:
        return f"{self.name.lower()}s"


def _condition(name: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{field}'


KINDS = (
    Kind(
        FineTuneJob,
        "ftj",
        columns=(
            ("PHASE", "string", ".status.phase", "One word for what happens now."),
            (
                "PROGRESS",
                "integer",
                ".status.progress.progressPercentage",
                "Percent of the running stage that is done.",
            ),
            ("LOSS", "string", ".status.loss", "Newest training loss."),
            ("SCORE", "string", ".status.score", "Main metric on the test split."),
            (
                "ETA",
                "integer",
                ".status.progress.estimatedRemainingSeconds",
                "Seconds that the running stage still needs.",
            ),
            _AGE,
        ),
        wide=(
            ("STAGE", "string", ".status.progress.stage", "Stage that runs."),
            ("STEP", "integer", ".status.progress.step", "Optimizer steps done."),
            ("MODEL VERSION", "string", ".status.modelVersion", "ModelVersion with the result."),
            (
                "REASON",
                "string",
                _condition("Succeeded", "reason"),
                "Why it ended, or what it does.",
            ),
            ("BASE", "string", ".spec.model.base", "Base model."),
        ),
        selectable=(".spec.task", ".spec.model.base", ".spec.model.name", ".status.phase"),
    ),
    Kind(
        ModelVersion,
        "mv",
        columns=(
            ("MODEL", "string", ".spec.model", "Name of the model."),
            ("VERSION", "integer", ".spec.version", "Number of the version."),
            ("TASK", "string", ".spec.task", "What the model does."),
            ("VERDICT", "string", ".spec.verdict", "Whether every gate passed."),
            ("F1", "string", '.spec.metrics[?(@.name=="f1_macro")].value', "Macro F1, test split."),
            ("LOSS", "string", '.spec.metrics[?(@.name=="loss")].value', "Loss on the test split."),
            _AGE,
        ),
        wide=(
            ("JOB", "string", ".spec.lineage.job", "FineTuneJob that made it."),
            ("DIGEST", "string", ".spec.digest", "SHA-256 over the model's files."),
        ),
        selectable=(".spec.model", ".spec.verdict", ".spec.task", ".spec.lineage.job"),
    ),
    Kind(
        ModelEndpoint,
        "mep",
        columns=(
            ("MODEL", "string", ".spec.model", "Name of the model."),
            ("VERSION", "integer", ".status.version", "Version that is served."),
            ("READY", "string", _condition("Ready", "status"), "Whether it answers."),
            ("REPLICAS", "integer", ".status.replicas", "Server pods."),
            ("URL", "string", ".status.url", "Address inside the cluster."),
            _AGE,
        ),
        selectable=(".spec.model", ".spec.versionPolicy", ".spec.runtime"),
        scale={
            "specReplicasPath": ".spec.replicas.min",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": [kind.short],
        "categories": ["oikyo"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _columns(kind.columns, 0) + _columns(kind.wide, 1),
        "selectableFields": [{"jsonPath": path} for path in kind.selectable],
        "subresources": {"status": {}} | ({"scale": dict(kind.scale)} if kind.scale else {}),
        "schema": {"openAPIV3Schema": structural(kind.model)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _columns(columns: Sequence[Column], priority: int) -> list[dict[str, Any]]:
    extra = {"priority": priority} if priority else {}
    return [
        {"name": name, "type": kind, "jsonPath": path, "description": text, **extra}
        for name, kind, path, text in columns
    ]


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: two equal parts are two parts."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def text(kind: Kind) -> str:
    """The file of one CRD."""
    body = yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=100)
    return f"# Made from oikyo.api by `make generate`; do not edit.\n{body}"


def files() -> dict[str, str]:
    """Every generated file: path from the root of the repository, and its text."""
    made: dict[str, str] = {}
    for kind in KINDS:
        made[f"crds/{kind.plural}.yaml"] = text(kind)
        made[f"charts/oikyo/files/crds/{kind.plural}.yaml"] = text(kind)
        made[f"docs/reference/{kind.name.lower()}.md"] = page(kind.name, structural(kind.model))
    made["docs/reference/data-checks.md"] = checks_page()
    return made


def main(arguments: Sequence[str], root: Path) -> int:
    """Print, write or check; the exit status."""
    if unknown := set(arguments) - {"--write", "--check"}:
        sys.stderr.write(f"{', '.join(sorted(unknown))}: write --write, --check or nothing\n")
        return 2
    if not arguments:
        sys.stdout.write("---\n".join(text(kind) for kind in KINDS))
        return 0
    stale = [path for path, made in files().items() if _read(root / path) != made]
    if "--write" in arguments:
        for path in stale:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(files()[path], encoding="utf-8")
        return 0
    for path in stale:
        sys.stderr.write(f"{path} is not what the models say: run `make generate` and commit it\n")
    return 1 if stale else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
