"""The model card: README.md of a version, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from oikyo.api.meta import Metric
from oikyo.api.tasks import FACTS
from oikyo.api.workspace import HISTORY

from .record import VersionRecord

SEVERAL = (
    "It knows only the labels it was trained on, and gives a text those of them that are likelier than "
    "not, or none."
)


def card(record: VersionRecord) -> str:
    """The card of this record, front matter included."""
    return str(ModelCard(f"---\n{_data(record).to_yaml()}\n---\n\n{_body(record)}"))


def _limits(record: VersionRecord) -> str:
    # Only rows with several labels are measured by it.
    several = any(metric.name == "f1_micro" for metric in record.metrics)
    return SEVERAL if several else FACTS[record.task].limits


def _data(record: VersionRecord) -> ModelCardData:
    base = record.lineage.base
    hub_name = base.removeprefix("hf://").split("@")[0] if base.startswith("hf://") else None
    return ModelCardData(
        base_model=hub_name,
        library_name="transformers",
        pipeline_tag=FACTS[record.task].tag,
        model_name=f"{record.model} version {record.version}",
        tags=["oikyo", f"verdict:{record.verdict.lower()}"],
        eval_results=[
            EvalResult(
                task_type=FACTS[record.task].tag,
                dataset_type=record.lineage.dataset_digest.replace("sha256:", "sha256-"),
                dataset_name="hold-out test split",
                dataset_split="test",
                metric_type=metric.name,
                metric_value=float(metric.value),
            )
            for metric in record.metrics
        ],
    )


def _body(record: VersionRecord) -> str:
    sections = {
        "Data": _data_section(record),
        "Training": _training(record),
        "Evaluation": _evaluation(record),
        "Verdict": _verdict(record),
        "Lineage": _lineage(record),
        "Limits": f"{_limits(record)} It was measured on {record.rows} rows of the same source as "
        "the training data; on other text it may do worse.",
    }
    parts = [
        f"# {record.model} version {record.version}",
        f"{record.task}, {record.verdict.lower()}.",
    ]
    for title, text in sections.items():
        parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"


def _data_section(record: VersionRecord) -> str:
    generated = (
        f" An answer was generated for {record.generated_rows} of them."
        if record.generated_rows
        else ""
    )
    return (
        f"Prepared rows with the digest `{record.lineage.dataset_digest}`. "
        f"{record.rows} rows of the test split, which training never saw, were scored.{generated}"
    )


def _training(record: VersionRecord) -> str:
    settings = _table(("Setting", "Value"), _pairs(record.lineage.hyperparameters))
    measured = _table(("Measured", "Value"), _pairs(record.training))
    return f"{settings}\n\n{measured}\n\nThe curve stands in `{HISTORY}`."


def _evaluation(record: VersionRecord) -> str:
    base = dict(_pairs(record.baseline))
    rows = [(name, value, base.get(name, "")) for name, value in _pairs(record.metrics)]
    table = _table(("Metric", "This version", "Base"), rows)
    return f"{table}\n\nBase means {record.baseline_method}.{_forgetting(record)}{_slices(record)}"


def _forgetting(record: VersionRecord) -> str:
    return f"\n\nWhat it still knows: {record.forgetting}." if record.forgetting else ""


def _slices(record: VersionRecord) -> str:
    if not record.slices:
        return ""
    rows = [
        (
            f"{s.column} = {s.value}",
            str(s.rows),
            s.accuracy or s.loss,
            f"{s.low} to {s.high}" if s.low else "",
            s.baseline,
        )
        for s in record.slices
    ]
    what = "Accuracy" if record.slices[0].accuracy else "Loss"
    head = ("Slice", "Rows", what, "95 % interval", "Base")
    order = "the least accurate first" if what == "Accuracy" else "the highest loss first"
    return f"\n\nBy slices of the data, {order}:\n\n{_table(head, rows)}"


def _verdict(record: VersionRecord) -> str:
    rows = [
        (g.metric, g.rule, g.value, g.threshold, "passed" if g.passed else "failed")
        for g in record.gates
    ]
    return f"**{record.verdict}.**\n\n" + _table(
        ("Metric", "Gate", "Value", "Threshold", "Result"), rows
    )


def _lineage(record: VersionRecord) -> str:
    lineage = record.lineage
    rows = [
        ("job", f"{lineage.job} ({lineage.job_uid})"),
        ("run", lineage.run),
        ("base model", lineage.base),
        ("base model digest", lineage.base_digest),
        ("dataset digest", lineage.dataset_digest),
        ("model digest", record.digest),
        ("image", lineage.image or "none, run without an image"),
        ("created", record.created),
        *((f"seed of {name}", str(seed)) for name, seed in lineage.seeds.items()),
        *_pairs(lineage.libraries),
    ]
    return _table(("What", "Value"), rows)


def _pairs(metrics: tuple[Metric, ...]) -> list[tuple[str, str]]:
    return [(metric.name, metric.value) for metric in metrics]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
