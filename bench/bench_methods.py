"""Every method on the bases of the examples: the tuned model against its base, by the verdict's own metrics.

    python bench/bench_methods.py DIR [--seeds 3] [--only DPO,LoRA] [--kept]
                                  [--write docs/reference/methods-measured.md]

DIR holds the examples' bases and data, made where they are missing, and the workspace; what stands there
already is not trained again. Each method runs prepare and train with its automatic learning rate, 16 rows a step, and
then both models are asked by the functions of evaluate. Times are those of whatever else the machine did; metrics do not care.

The example has 182 test rows of classes, of which one is half a point. Here its script takes up to 240 rows of a
family instead of 120, and half of all rows are to test. `--seeds` repeats every case, each seed with a split of its
own, and the table tells the mean and the standard deviation. What counts as more than chance is told in methods_table.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from methods_rows import Said, ask
from methods_table import over_all, table

from oikyo.api import workspace as layout
from oikyo.api.split import Split
from oikyo.api.stages import (
    PrepareResult,
    PrepareSpec,
    Source,
    TrainResult,
    TrainSpec,
)
from oikyo.api.training import TrainingSpec
from oikyo_trainer.context import Context
from oikyo_trainer.evaluation.rows import Row, choose, open_dataset
from oikyo_trainer.progress import Reporter

TABLE = "docs/reference/methods-measured.md"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    task: str
    metric: str
    training: dict[str, Any] = field(default_factory=dict)
    chosen: str = ""
    """What is not left to the default, as the table tells it."""

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

SHORT = {"PromptTuning": ({"prompt_tuning": {"virtual_tokens": 4}}, "virtualTokens 4")}
"""Of the classes, whose rows of 28 tokens want fewer vectors than the 20 of the default (docs/reference/methods.md)."""


STEPS = {"TextClassification": 256, "TextGeneration": 192}
"""Three epochs of the classes, half of one of the answers."""
ROWS_OF_A_FAMILY = 240
"""Of the classes at most: twice the example's, so that about as many are learned as in the example."""
TESTED = {"TextClassification": "0.5", "TextGeneration": "0.1"}
"""Share of the rows that are to test."""
MOST_TESTED = {"TextClassification": None, "TextGeneration": 200}
"""Test rows; those of the answers are a loss over thousands of tokens."""
OBJECTIVES = ("DPO", "ORPO", "KTO")


def cases(seed: int) -> list[Case]:
    """Classification first: its base is the faster one to make."""
    classes, answers = (
        {"max_steps": STEPS[task], "batch_size": 16, "max_length": 96, "seed": seed}
        for task in ("TextClassification", "TextGeneration")
    )
    told = []
    for name, method in METHODS.items():
        more, chosen = SHORT.get(name, ({}, ""))
        settings = classes | method | more
        told.append(Case(name, "TextClassification", "f1_macro", settings, chosen))
    told += [
        Case(name, "TextGeneration", "loss", answers | method) for name, method in METHODS.items()
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
        options = [str(folder / "classes"), str(ROWS_OF_A_FAMILY)]
        subprocess.run([sys.executable, str(script), *options], check=True)
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


def measure(case: Case, folder: Path) -> tuple[TrainResult, list[int], Said, Said]:
    """Prepare and train in this process; then which the test rows are, and what the tuned and the base model say."""
    from oikyo_trainer.data.prepare import prepare
    from oikyo_trainer.training.train import train

    workspace, training = folder / "workspace", TrainingSpec(**case.training)
    common: dict[str, Any] = {"run": case.run, "task": case.task}
    base = folder / ("classes/model" if case.task == "TextClassification" else "answers/base")
    path = data_of(case, folder)
    data: PrepareResult = prepare(
        PrepareSpec(
            **common,
            model=Source(uri=f"file://{base}", path=str(base)),
            sources=(Source(uri=f"file://{path}", path=str(path)),),
            split=Split(test=TESTED[case.task], seed=training.seed),
            objective=training.objective,
            max_length=training.max_length,
            training=training,
        ),
        _context("prepare", case, workspace),
    )
    digests = {"dataset_digest": data.dataset_digest, "model_digest": data.model_digest}
    spec = TrainSpec(**common, **digests, tokens_digest=data.tokens_digest, training=training)
    trained = train(spec, _context("train", case, workspace))
    dataset = open_dataset(workspace, data.dataset_digest)
    rows = choose(dataset.rows("test"), MOST_TESTED[case.task])
    tuned = workspace / (trained.model_path or str(layout.stage(case.run, "train") / "model"))
    known = folder / "figures" / f"base-{data.dataset_digest.rpartition(':')[2][:12]}.json"
    if not known.exists():  # the same for every method
        keep(ask(base, dataset, rows, training.max_length, base=True), known)
    said = ask(tuned, dataset, rows, training.max_length)
    return trained, identities(rows), said, json.loads(known.read_text("utf-8"))


def identities(rows: Sequence[Row]) -> list[int]:
    """A number for each row, by which it is known again on the test side of another seed."""
    return [zlib.crc32(json.dumps(row, sort_keys=True).encode()) for row in rows]


def keep(told: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), "utf-8")


def _context(stage: Any, case: Case, workspace: Path) -> Context:
    workspace.mkdir(parents=True, exist_ok=True)
    return Context(workspace, Reporter(stage, 1, case.run))


def figures_of(case: Case, folder: Path) -> Path:
    """Where the figures of a case are kept, by its settings."""
    settings = json.dumps(case.training, sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return folder / "figures" / f"{case.run}-{digest}.json"


def line_of(case: Case, folder: Path) -> dict[str, Any]:
    """The figures of a case: kept from an earlier run of the same settings, or measured now."""
    kept = figures_of(case, folder)
    if not kept.exists():
        make_example(case.task, folder)
        begun = time.monotonic()
        trained, rows, tuned, base = measure(case, folder)
        chosen = {item.name: item.value for item in trained.resolved}
        line = {
            "name": case.name,
            "chosen": case.chosen,
            "task": case.task,
            "metric": case.metric,
            "rate": chosen["training.learningRate"],
            "steps": case.training["max_steps"],
            "seed": case.training["seed"],
            "seconds": round(time.monotonic() - begun),
            "rows": rows,
            "tuned": tuned,
            "base": base,
        }
        keep(line, kept)
    told: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    return told


def asked_cases(arguments: argparse.Namespace) -> list[Case]:
    """Method by method, so that what is stopped early has whole rows of the table."""
    wanted = set(filter(None, arguments.only.split(",")))
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    told = [case for seed in seeds for case in cases(seed)]
    told = [case for case in told if not wanted or case.name in wanted]
    told = [case for case in told if arguments.task in ("", case.task)]
    order = {(case.task, case.name): place for place, case in reversed(list(enumerate(told)))}
    return sorted(told, key=lambda case: order[case.task, case.name])


def command_of(arguments: argparse.Namespace) -> str:
    """The command that makes the whole table, with as many seeds."""
    seeds = f" --seeds {arguments.seeds}" if arguments.seeds > 1 else ""
    return f"python bench/bench_methods.py DIR{seeds}{' --kept' * arguments.kept} --write {TABLE}"


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("folder", type=Path)
    command.add_argument("--seed", type=int, default=42, help="the first one; default: 42")
    command.add_argument("--seeds", type=int, default=1, help="how many; default: 1")
    command.add_argument("--only", default="", help="names, with commas; all when left out")
    command.add_argument("--task", default="", help="of one task alone")
    command.add_argument("--kept", action="store_true", help="tell what is measured, train nothing")
    command.add_argument("--write", type=Path, help="file for the table")
    arguments = command.parse_args()
    folder = arguments.folder.resolve()
    lines = []
    for case in asked_cases(arguments):
        if arguments.kept and not figures_of(case, folder).exists():
            continue
        lines.append(line_of(case, folder))
        shown = {name: lines[-1][name] for name in ("name", "task", "seed", "rate", "seconds")}
        shown |= {side: over_all(lines[-1][side]) for side in ("base", "tuned")}
        print(json.dumps(shown), flush=True)
    told = table(lines, command_of(arguments))
    print(told)
    if arguments.write:
        arguments.write.write_text(told, "utf-8")
    return 1 if "**no**" in told else 0  # as long as one does not beat its base beyond noise


if __name__ == "__main__":
    sys.exit(main())
