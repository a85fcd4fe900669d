"""Every method on the bases of the examples: the tuned model against its base, by the verdict's own metrics.

    python bench/bench_methods.py DIR [--seed 42] [--only DPO,LoRA] [--write docs/reference/methods-measured.md]

DIR holds the examples' bases and data, made where they are missing, and the workspace; what stands there
already is not trained again. Each method runs prepare, train and evaluate with its automatic learning
rate, 16 rows a step. Times are those of whatever else the machine did; metrics do not care.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import (
    EvaluateResult,
    EvaluateSpec,
    LastWords,
    PrepareResult,
    PrepareSpec,
    Source,
    TrainResult,
    TrainSpec,
)
from oikyo.api.training import TrainingSpec
from oikyo_trainer.context import Context
from oikyo_trainer.progress import Reporter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    task: str
    metric: str
    training: dict[str, Any] = field(default_factory=dict)
    lower: bool = False

    @property
    def run(self) -> str:
        kind = "classes" if self.task == "TextClassification" else "answers"
        return f"{kind}-{self.name.lower()}-{self.training['seed']}"


METHODS: dict[str, dict[str, Any]] = {
    "Full": {"method": "Full"},
    "LoRA": {"method": "LoRA"},
    "rsLoRA": {"lora": {"variant": "RsLoRA"}},
    "DoRA": {"lora": {"variant": "DoRA"}},
    "OFT": {"method": "OFT"},
    "IA3": {"method": "IA3"},
    "LayerNorm": {"method": "LayerNorm"},
    "PromptTuning": {"method": "PromptTuning", "merge": False},
}


STEPS = {"TextClassification": 256, "TextGeneration": 192}
"""Three epochs of the classes, half of one of the answers."""
OBJECTIVES = ("DPO", "ORPO", "KTO")


def cases(seed: int) -> list[Case]:
    """Classification first: its base is the faster one to make."""
    classes, answers = (
        {"max_steps": STEPS[task], "batch_size": 16, "max_length": 96, "seed": seed}
        for task in ("TextClassification", "TextGeneration")
    )
    told = [
        Case(name, "TextClassification", "f1_macro", classes | method)
        for name, method in METHODS.items()
    ]
    told += [
        Case(name, "TextGeneration", "loss", answers | method, lower=True)
        for name, method in METHODS.items()
    ]
    return told + [
        Case(name, "TextGeneration", "preference_margin", answers | {"objective": name})
        for name in OBJECTIVES
    ]


def make_example(task: str, folder: Path) -> None:
    if task == "TextClassification":
        if (folder / "classes" / "docstrings.jsonl").exists():
            return
        script = EXAMPLES / "text-classification" / "make_data.py"
        subprocess.run([sys.executable, str(script), str(folder / "classes")], check=True)
    elif not (folder / "answers" / "base" / "config.json").exists():
        script = EXAMPLES / "text-generation" / "make_base.py"
        subprocess.run([sys.executable, str(script), str(folder / "answers")], check=True)


def data_of(case: Case, folder: Path) -> Path:
    """The rows; preferred is a signature's own sentence over the same words in a random order."""
    if case.task == "TextClassification":
        return folder / "classes" / "docstrings.jsonl"
    plain = folder / "answers" / "data" / "docstrings.jsonl"
    objective = case.training.get("objective", "Supervised")
    if objective == "Supervised":
        return plain
    path = folder / "answers" / "data" / ("votes.jsonl" if objective == "KTO" else "pairs.jsonl")
    if not path.exists():
        rows = [json.loads(line) for line in plain.read_text("utf-8").splitlines()]
        made = (_preference(rows, n, objective) for n in range(len(rows)))
        kept = (row for row in made if row.get("chosen") != row.get("rejected", ""))
        path.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
    return path


def _preference(rows: list[dict[str, str]], number: int, objective: str) -> dict[str, Any]:
    row = rows[number]
    words = row["completion"].split()
    random.Random(number).shuffle(words)
    mixed = " ".join(words)
    if objective == "KTO":
        liked = number % 2 == 0
        answer = row["completion"] if liked else mixed
        return {"prompt": row["prompt"], "completion": answer, "desirable": liked}
    return {"prompt": row["prompt"], "chosen": row["completion"], "rejected": mixed}


def measure(case: Case, folder: Path) -> tuple[TrainResult, EvaluateResult, float]:
    """The three stages in this process."""
    from oikyo_trainer.data.prepare import prepare
    from oikyo_trainer.evaluation.evaluate import evaluate
    from oikyo_trainer.training.train import train

    begun = time.monotonic()
    workspace, training = folder / "workspace", TrainingSpec(**case.training)
    common: dict[str, Any] = {"run": case.run, "task": case.task}
    base = folder / ("classes/model" if case.task == "TextClassification" else "answers/base")
    path = data_of(case, folder)
    data: PrepareResult = prepare(
        PrepareSpec(
            **common,
            model=Source(uri=f"file://{base}", path=str(base)),
            sources=(Source(uri=f"file://{path}", path=str(path)),),
            objective=training.objective,
            max_length=training.max_length,
            training=training,
        ),
        _context("prepare", case, workspace),
    )
    digests = {"dataset_digest": data.dataset_digest, "model_digest": data.model_digest}
    spec = TrainSpec(**common, **digests, tokens_digest=data.tokens_digest, training=training)
    trained = train(spec, _context("train", case, workspace))
    words = LastWords(stage="train", result=trained)
    (workspace / layout.stage(case.run, "train") / layout.RESULT).write_text(words.json_line())
    judged = evaluate(
        EvaluateSpec(
            **common,
            **digests,
            job=case.run,
            job_uid="bench",
            base_uri=f"file://{base}",
            model_name=case.run,
            training=training,
            evaluation={"max_rows": 200, "max_new_tokens": 16},
        ),
        _context("evaluate", case, workspace),
    )
    return trained, judged, time.monotonic() - begun


def _context(stage: Any, case: Case, workspace: Path) -> Context:
    workspace.mkdir(parents=True, exist_ok=True)
    return Context(workspace, Reporter(stage, 1, case.run))


def line_of(case: Case, folder: Path) -> dict[str, Any]:
    """The figures of a case: kept from an earlier run of the same settings, or measured now."""
    settings = json.dumps(case.training, sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    kept = folder / "figures" / f"{case.run}-{digest}.json"
    if not kept.exists():
        make_example(case.task, folder)
        trained, judged, seconds = measure(case, folder)
        chosen = {item.name: item.value for item in trained.resolved}
        value, base = (
            next(float(m.value) for m in metrics if m.name == case.metric)
            for metrics in (judged.metrics, judged.baseline)
        )
        line = {
            "name": case.name,
            "task": case.task,
            "metric": case.metric,
            "rate": chosen["training.learningRate"],
            "steps": case.training["max_steps"],
            "seed": case.training["seed"],
            "base": base,
            "tuned": value,
            "better": value < base if case.lower else value > base,
            "seconds": round(seconds),
        }
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(line), "utf-8")
    told: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    return told


def table(lines: list[dict[str, Any]]) -> str:
    rows = [
        f"| {line['name']} | {line['task']} | {line['seed']} | {line['steps']} | {line['rate']} "
        f"| {line['metric']} | {line['base']:.4g} | {line['tuned']:.4g} "
        f"| {'yes' if line['better'] else '**no**'} |"
        for line in lines
    ]
    head = [
        "# Methods, measured",
        "",
        "`python bench/bench_methods.py DIR --write docs/reference/methods-measured.md` on the bases of the "
        "examples: steps of 16 rows, automatic learning rate, metrics on test rows that training never saw "
        "(182 of the classes, 200 of the answers). The base of the classes is a linear probe on its features; "
        "preferred answers are sentences, and the others the same words in a random order.",
        "",
        "| method | task | seed | steps | rate | metric | base | tuned | beats the base |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("folder", type=Path)
    command.add_argument("--seed", type=int, action="append", help="once for each; default: 42")
    command.add_argument("--only", default="", help="names, with commas; all when left out")
    command.add_argument("--task", default="", help="of one task alone")
    command.add_argument("--write", type=Path, help="file for the table")
    arguments = command.parse_args()
    folder = arguments.folder.resolve()
    wanted = set(filter(None, arguments.only.split(",")))
    lines = []
    for case in itertools.chain.from_iterable(map(cases, arguments.seed or [42])):
        if (wanted and case.name not in wanted) or arguments.task not in ("", case.task):
            continue
        lines.append(line_of(case, folder))
        print(json.dumps(lines[-1]), flush=True)
    told = table(lines)
    print(told)
    if arguments.write:
        arguments.write.write_text(told, "utf-8")
    return 0 if all(line["better"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
