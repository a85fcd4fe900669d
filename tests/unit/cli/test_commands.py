"""The command line: exit codes, one clear block for each error, and a quick start."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.meta import Condition, OwnerReference
from oikyo.api.modelversion import AdapterFacts
from oikyo.cli.app import run_command
from oikyo.cli.compare import left_out
from oikyo.cli.ending import exit_code
from oikyo.controller import reasons
from oikyo.desktop.home import Home
from oikyo.desktop.objects import Store
from scenes import endpoint, job, version

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*/*.yaml"))
WHEN = "2026-11-23T12:00:00Z"
MANIFEST = """\
apiVersion: oikyo.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tickets}
spec:
  model: {base: "file://model"}
  task: TextClassification
  data: {sources: [{uri: "file://rows.jsonl"}]}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "job.yaml").write_text(MANIFEST, encoding="utf-8")
    return tmp_path


def ended(reason: str) -> FineTuneJob:
    status = "True" if reason == reasons.ACCEPTED else "False"
    condition = Condition(type="Succeeded", status=status, reason=reason, last_transition_time=WHEN)
    return job(FineTuneJobStatus(conditions=(condition,)))


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (reasons.ACCEPTED, 0),
        (reasons.BACKOFF_LIMIT_EXCEEDED, 1),
        (reasons.DEADLINE_EXCEEDED, 1),
        (reasons.GATE_FAILED, 2),
        (reasons.INPUT_REFUSED, 64),
    ],
)
def test_the_exit_code_says_how_the_job_ended(reason: str, code: int) -> None:
    assert exit_code(ended(reason)) == code


def test_a_job_that_has_not_ended_was_suspended() -> None:
    assert exit_code(job()) == 130


def test_a_valid_manifest_is_told_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "job.yaml"]) == 0
    assert "FineTuneJob tickets is valid" in capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_manifests_of_the_examples_are_valid(path: Path, tmp_path: Path) -> None:
    for source in re.findall(r"pvc://examples/([\w./-]+)", path.read_text(encoding="utf-8")):
        (tmp_path / source).mkdir(parents=True)
    assert run_command(["validate", str(path), "--claim", f"examples={tmp_path}"]) == 0


def test_all_that_is_wrong_is_told_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = MANIFEST + "  training: {lora: {rank: -1}}\n  colour: red\n"
    (here / "job.yaml").write_text(text, encoding="utf-8")
    assert run_command(["validate", "job.yaml"]) == 64
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "rank" in told
    assert "colour" in told
    assert "Traceback" not in told


def test_missing_sources_are_told_together_and_nothing_is_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "rows.jsonl").unlink()
    (here / "model").rmdir()
    assert run_command(["run", "job.yaml"]) == 64
    told = capsys.readouterr().err
    assert "spec.model.base is file://model" in told
    assert "spec.data.sources[0].uri is file://rows.jsonl" in told
    assert not (here / ".oikyo/objects").exists()


@pytest.mark.parametrize("argv", [["run"], ["run", "job.yaml", "--colour"], ["fly"]])
def test_a_wrong_command_line_is_no_failed_gate(
    here: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(argv) == 64
    assert "oikyo --help" in capsys.readouterr().err


def test_a_name_that_is_not_there_is_answered_with_those_that_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(Home(here / ".oikyo")).put(job())
    assert run_command(["get", "ticket"]) == 64
    assert "jobs here: tickets" in capsys.readouterr().err
    assert run_command(["get", "tickets"]) == 0
    assert "kind: FineTuneJob" in capsys.readouterr().out


def test_the_list_shows_jobs_versions_and_endpoints(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(Home(here / ".oikyo"))
    store.put(ended(reasons.ACCEPTED))
    store.put(version(2, accepted=False))
    store.put(endpoint())
    assert run_command(["list"]) == 0
    told = capsys.readouterr().out
    assert "tickets" in told
    assert "Rejected" in told
    assert "LatestAccepted" in told


def test_a_rejected_version_is_not_served_unless_forced(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from oikyo.desktop.serving import choose

    home = Home(here / ".oikyo")
    Store(home).put(version(1, accepted=False))
    assert run_command(["serve", "tickets"]) == 64
    told = capsys.readouterr().err
    assert "no version of tickets has passed its gates yet" in told
    assert "--version 1 --force" in told
    assert run_command(["serve", "tickets", "--version", "1"]) == 64
    assert choose(home, "tickets", 1, force=True).version == 1


def test_serving_follows_the_endpoint_that_was_recorded(here: Path) -> None:
    from oikyo.desktop.serving import choose

    home = Home(here / ".oikyo")
    for number in (1, 2):
        Store(home).put(version(number))
    assert choose(home, "tickets", None, force=False).version == 2
    Store(home).put(endpoint(versionPolicy="Pinned", version=1))
    assert choose(home, "tickets", None, force=False).version == 1
    assert choose(home, "tickets", 2, force=False).version == 2


def test_adapters_are_served_beside_the_model_by_name_and_version(here: Path) -> None:
    from oikyo.desktop.serving import choose

    home, lora = Home(here / ".oikyo"), AdapterFacts(method="LoRA", rank=8, variant="Standard")
    for number, model in ((1, "tickets"), (1, "refunds"), (2, "refunds"), (1, "moods")):
        Store(home).put(version(number, model=model, adapter=lora))
    spec = choose(home, "tickets", None, beside=["refunds/1", "moods"], force=False)
    assert [(one.name, one.version) for one in spec.adapters] == [("refunds", 1), ("moods", 1)]
    assert [one.path for one in spec.adapters] == ["versions/refunds/1", "versions/moods/1"]


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("refunds/three", "--adapter refunds/three: write the name of a model"),
        ("Refunds", "--adapter Refunds: write the name of a model"),
        ("tickets", "--adapter tickets: tickets is served already"),
        ("nobody", "spec.adapters[nobody]: no version of nobody has passed its gates"),
        ("whole", "version 1 of whole is a whole model"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], adapter: str, words: str
) -> None:
    store = Store(Home(here / ".oikyo"))
    store.put(version(1, adapter=AdapterFacts(method="IA3")))
    store.put(version(1, model="whole"))
    assert run_command(["serve", "tickets", "--adapter", adapter]) == 64
    told = capsys.readouterr().err
    assert words in told
    assert "kubectl" not in told


def test_delete_takes_what_the_job_owns_and_leaves_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(here / ".oikyo")
    store = Store(home)
    store.put(job())
    kept, owned = version(1), version(2)
    owner = OwnerReference(
        api_version="oikyo.dev/v1alpha1", kind="FineTuneJob", name="tickets", uid=job().metadata.uid
    )
    store.put(kept)
    meta = owned.metadata.model_copy(update={"owner_references": (owner,)})
    store.put(owned.model_copy(update={"metadata": meta}))
    for number in (1, 2):
        (home.workspace / f"versions/tickets/{number}").mkdir(parents=True)
    assert run_command(["delete", "tickets"]) == 0
    assert "deleted version tickets-v2" in capsys.readouterr().out
    assert [v.spec.version for v in store.versions("tickets")] == [1]
    assert (home.workspace / "versions/tickets/1").exists()
    assert not (home.workspace / "versions/tickets/2").exists()
    assert store.get(FineTuneJob, "tickets") is None


def test_help_needs_no_heavy_library() -> None:
    """Loaded modules, not seconds: a busy machine must not fail it."""
    script = (
        "import sys; from oikyo.cli.app import run_command; run_command(['run', '--help']); "
        "heavy = {'torch', 'yaml', 'jinja2', 'rich.live', 'oikyo.api.finetunejob'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) or 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert answer.returncode == 0, answer.stderr
    assert "Exit codes" in answer.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 10


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("data.augment", "the job has no spec.data.augment"),
        ("data.duplicates", "nothing to compare"),
        ("data.sources", "without data.sources the job is not valid"),
    ],
)
def test_compare_says_what_cannot_be_left_out(
    here: Path, capsys: pytest.CaptureFixture[str], field: str, sentence: str
) -> None:
    assert run_command(["compare", str(here / "job.yaml"), "--without", field]) == 64
    assert sentence in capsys.readouterr().err


def test_the_job_that_is_compared_with_keeps_a_name_and_versions_of_its_own() -> None:
    augmented = job(
        name="t" * 52,
        data={"sources": [{"uri": "pvc://d/a.jsonl"}], "augment": {"edits": {}}},
        deployment={},
    )
    other = left_out(augmented, "spec.data.augment")
    assert other.metadata.name == "t" * 36 + "-without-augment"
    assert len(other.metadata.name) <= 52
    assert other.model_name == other.metadata.name
    assert other.spec.deployment is None
    assert other.spec.data.augment is None
    assert other.spec.data.split == augmented.spec.data.split


def check_job(here: Path, spec: str, *options: str) -> int:
    """`oikyo data check` of a job with this spec, whose base model is not on this machine."""
    manifest = MANIFEST.partition("spec:")[0] + f"spec:\n  model: {{base: hf://org/base}}\n{spec}"
    (here / "job.yaml").write_text(manifest, encoding="utf-8")
    return run_command(["data", "check", "job.yaml", *options])


def test_the_data_of_a_job_is_checked_and_its_endpoint_is_not_asked(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"{'my card' if n % 2 else 'a loan'} {n}", "label": n % 2} for n in range(400)]
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    augment = "perRow: 2, endpoint: {url: 'http://127.0.0.1:9/v1', model: gemma, maxRequests: 30}"
    spec = (
        "  task: TextClassification\n  data: {sources: [{uri: 'file://rows.jsonl'}], augment: {%s}}"
    )
    assert check_job(here, spec % augment) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "TextClassification: the job says so"
    train = int(re.findall(r"(\d+) train", lines[1])[0])
    assert any(f"{2 * train} by endpoint, of {train} training rows" in line for line in lines)
    (asked,) = [line for line in lines if "127.0.0.1:9" in line]
    assert f"30 requests for gemma; {2 * train - 30} more are over its budget" in asked
    assert lines[-2:] == [
        "lengths were not checked: name the base model with --model DIR",
        "nothing refuses a training on this data",
    ]
    assert check_job(here, spec % "balance: '0.5'", "--json") == 0
    assert json.loads(capfd.readouterr().out)["augment"] == {"asked": {}, "of": 0}
    assert check_job(here, spec % "templates: ['ask: {text}']", "--near", "Warn") == 64
    assert "JOB.yaml knows no --near: the job says what" in capfd.readouterr().err
    assert check_job(here, spec % "templates: ['no place']") == 64
    assert "write {text} where the text of the row belongs" in capfd.readouterr().err


def test_the_general_rows_of_a_job_are_checked_too(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def write(name: str, word: str, count: int) -> None:
        pairs = [{"prompt": f"{word} {n}?", "completion": f"It is {n}."} for n in range(count)]
        (here / name).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    write("rows.jsonl", "task", 400)
    write("general.jsonl", "world", 400)
    spec = (
        "  task: TextGeneration\n  data: {sources: [{uri: 'file://rows.jsonl'}]}\n"
        "  training: {general: {sources: [{uri: 'file://general.jsonl'}]}}"
    )
    assert check_job(here, spec, "--json") == 0
    assert sum(json.loads(capfd.readouterr().out)["general"]["parts"].values()) == 400
    write("general.jsonl", "world", 12)
    assert check_job(here, spec) == 64
    shown = capfd.readouterr()
    assert "training.general has 12 rows to use" in shown.err
    write("general.jsonl", "task", 400)
    assert check_job(here, spec) == 64
    assert "400 more are the task's own rows" in capfd.readouterr().err
