"""Rows become tokens once: the same bytes, shared, and refused by a training when they are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.data.tokenise import Request, Tokens, tokenise
from oikyo_trainer.errors import Refused
from oikyo_trainer.training.rows import open_tokens
from unit.trainer.training.conftest import LABELS, WORDS, Lab, digest, write_dataset


def made(lab: Lab, spec: Any, **training: Any) -> Tokens:
    settings = TrainingSpec.model_validate({**spec.training.model_dump(), **training})
    asked = Request(spec.task, spec.dataset_digest, spec.model_digest, settings)
    return tokenise(lab.workspace, asked, lab.workspace / ".staging", lambda _: None)


def folder(lab: Lab, tokens: Tokens) -> Path:
    return lab.workspace / layout.tokens(tokens.digest)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_same_rows_are_the_same_bytes_in_another_workspace(tmp_path: Path) -> None:
    labs = [Lab(tmp_path / name) for name in ("one", "other")]
    found = [made(lab, lab.spec("TextGeneration")) for lab in labs]
    assert found[0].digest == found[1].digest
    one, other = (contents(folder(lab, tokens)) for lab, tokens in zip(labs, found, strict=True))
    assert one == other
    facts = json.loads(one[layout.MANIFEST])
    assert set(facts["files"]) == set(one) - {layout.MANIFEST}
    assert facts["splits"]["train"]["rows"] == 96


def test_a_second_job_of_the_same_inputs_finds_them_and_counts_the_same(lab: Lab) -> None:
    spec = lab.spec("TextClassification")
    first = made(lab, spec)
    before = {path: path.stat().st_mtime_ns for path in folder(lab, first).iterdir()}
    again = made(lab, spec.model_copy(update={"run": "run-2"}))
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in folder(lab, first).iterdir()} == before


def test_all_that_tokens_depend_on_is_in_their_name(lab: Lab) -> None:
    spec = lab.spec("TextGeneration")
    settings: list[dict[str, Any]] = [
        {}, {"max_length": 9}, {"truncation": "Start"}, {"loss_on": "All"}
    ]  # fmt: skip
    names = [made(lab, spec, **setting).digest for setting in settings]
    assert made(lab, spec, epochs=7).digest == names[0], "what is learned is no part of the tokens"
    config = lab.workspace / layout.model(spec.model_digest) / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": "x"}))
    assert len({*names, made(lab, spec).digest}) == 5


def test_rows_that_are_cut_or_left_out_are_counted(lab: Lab) -> None:
    name = digest("long")
    rows = [{"text": " ".join(WORDS), "label": LABELS[n % 3]} for n in range(10)]
    rows += [{"text": "red", "label": LABELS[n % 3]} for n in range(30)]
    write_dataset(lab.workspace, "long", "classification", rows, validation=5)
    spec = lab.spec("TextClassification").model_copy(update={"dataset_digest": name})
    cut, dropped = made(lab, spec, max_length=8), made(lab, spec, max_length=8, truncation="Drop")
    assert (cut.splits["train"].rows, cut.splits["train"].too_long) == (35, 5)
    assert (dropped.splits["train"].rows, dropped.splits["train"].too_long) == (30, 5)
    assert cut.resolved().reason == "10 of 40 rows have more than 8 tokens and lose their end"
    assert dropped.resolved().reason == "10 rows of more than 8 tokens are left out, 30 stay"


def test_a_split_of_which_every_row_is_dropped_is_refused(lab: Lab) -> None:
    rows = [{"text": " ".join(WORDS), "label": LABELS[n % 3]} for n in range(10)]
    write_dataset(lab.workspace, "all-long", "classification", rows, validation=2)
    spec = lab.spec("TextClassification").model_copy(update={"dataset_digest": digest("all-long")})
    with pytest.raises(Refused, match=r"every row has more than training\.maxLength 8 tokens"):
        made(lab, spec, max_length=8, truncation="Drop")
    assert not (lab.workspace / "tokens").exists()


def test_a_training_refuses_tokens_that_are_gone_or_damaged(lab: Lab) -> None:
    spec = lab.spec("TextGeneration")
    with pytest.raises(Refused, match="a release that did not write tokens") as old:
        open_tokens(lab.workspace, spec)
    assert old.value.reason == "TokensMissing"
    spec = lab.tokenised(spec)
    assert spec.tokens_digest is not None
    path = lab.workspace / layout.tokens(spec.tokens_digest) / "train.tokens16"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(Refused, match=r"train\.tokens16 of the tokens is not as long"):
        open_tokens(lab.workspace, spec)
    with pytest.raises(Refused, match="the workspace holds no tokens"):
        open_tokens(lab.workspace, spec.model_copy(update={"tokens_digest": digest("none")}))


def test_damaged_tokens_are_made_anew(lab: Lab) -> None:
    spec = lab.tokenised(lab.spec("TextGeneration"))
    assert spec.tokens_digest is not None
    path = lab.workspace / layout.tokens(spec.tokens_digest)
    whole = contents(path)
    (path / "train.marks").unlink()
    lab.tokenised(spec)
    assert contents(path) == whole


def test_tokens_of_another_dataset_are_refused(lab: Lab) -> None:
    spec = lab.tokenised(lab.spec("TextGeneration"))
    other = spec.model_copy(update={"dataset_digest": digest("other")})
    with pytest.raises(Refused, match="the tokens are those of dataset"):
        open_tokens(lab.workspace, other)


def test_the_source_line_of_a_chat_that_the_template_refuses_is_told(lab: Lab) -> None:
    rows = [
        {"source": f"chats.jsonl:{n}", "messages": [{"role": "user", "content": "red"},
         {"role": "assistant", "content": "bad" if n == 7 else "one"}]}
        for n in range(12)
    ]  # fmt: skip
    write_dataset(lab.workspace, "chats", "messages", rows, validation=2)
    spec = lab.spec("TextGeneration").model_copy(update={"dataset_digest": digest("chats")})
    config = lab.workspace / layout.model(spec.model_digest) / "chat_template.jinja"
    config.write_text(
        "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }} {% endfor %}"
    )
    with pytest.raises(Refused, match="does not take a chat") as refused:
        made(lab, spec)
    assert refused.value.evidence == "chats.jsonl:7"


def test_the_places_that_prompt_tuning_takes_are_left_free(lab: Lab) -> None:
    rows = [{"text": " ".join(WORDS * 4), "label": LABELS[n % 3]} for n in range(10)]
    write_dataset(lab.workspace, "wide", "classification", rows, validation=2)
    spec = lab.spec("TextClassification").model_copy(update={"dataset_digest": digest("wide")})
    tuning = {"virtual_tokens": 8}
    tokens = made(lab, spec, max_length=64, method="PromptTuning", prompt_tuning=tuning)
    assert tokens.max_length == 32 - 8, "the model attends to 32"
    assert tokens.splits["train"].tokens == 8 * 24


@pytest.mark.parametrize("vectors", [25, 40])
def test_vectors_that_leave_no_room_for_a_row_are_refused(lab: Lab, vectors: int) -> None:
    spec = lab.spec("TextClassification")
    with pytest.raises(Refused, match=f"virtualTokens is {vectors}.*takes 32 tokens") as refused:
        made(lab, spec, method="PromptTuning", prompt_tuning={"virtual_tokens": vectors})
    assert refused.value.next_step == "Write virtualTokens: 20, or less."
