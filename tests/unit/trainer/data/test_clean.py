"""Cleaning: each step on texts with a known end, what it must leave alone, and what is logged of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from oikyo.api import workspace as layout
from oikyo.api.clean import LANGUAGES, Clean, Quality
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.data.clean import boilerplate, html, language, letters, quality
from oikyo_trainer.data.clean.cleaner import Cleaner
from oikyo_trainer.data.clean.log import FILE, CleanLog
from oikyo_trainer.data.clean.survey import Survey
from oikyo_trainer.data.columns import Columns
from oikyo_trainer.data.readers.row import Row
from oikyo_trainer.errors import Refused

EVERYTHING = {
    "unicode": "NFC",
    "mojibake": "Repair",
    "invisible": "Remove",
    "html": "Everywhere",
    "whitespace": "Collapse",
    "personalData": {"action": "Mask"},
}
CLASSIFIED = Columns("classification", {"text": "text", "label": "label"}, {})


def cleaned(row: dict[str, Any], clean: dict[str, Any], columns: Columns = CLASSIFIED) -> Any:
    """The values of the row as they are kept, or None, and the log."""
    log = CleanLog()
    kept = Cleaner(Clean.model_validate(clean), log, Survey()).row(Row(7, row), columns, "a.jsonl")
    return (kept.values if kept else None), log


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ({"unicode": "NFC"}, "cafe\u0301 \uff21", "caf\u00e9 \uff21"),
        ({"unicode": "NFKC"}, "\uff21\ufb01", "Afi"),
        ({"mojibake": "Repair"}, "the caf\u00c3\u00a9 isn\u00e2\u20ac\u2122t", "the caf\u00e9 isn\u2019t"),
        ({"mojibake": "Repair"}, "S\u00e3o Paulo, \u201cquoted\u201d &amp;", "S\u00e3o Paulo, \u201cquoted\u201d &amp;"),
        ({"invisible": "Remove"}, "\ufeffa\u200bb\x07c\u202ed\tE\nf", "abcd\tE\nf"),
        ({"invisible": "Remove"}, "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e", "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e"),
        ({"html": "Inputs"}, "<p>a &lt; b<br>c</p><script>x<y</script>", "a < b\nc"),
        ({"html": "Inputs"}, "a < b > c, List<String>, <EMAIL>, R&D &copy=1", "a < b > c, List<String>, <EMAIL>, R&D &copy=1"),
        ({"html": "Inputs"}, "use `<b>` or ```<p>``` <i>now</i>", "use `<b>` or ```<p>``` now"),
        ({"html": "Inputs"}, "<p>see `x` now.</p><p>And ```\n<p>\n``` then</p>", "see `x` now.\n\nAnd ```\n<p>\n``` then"),
        ({"html": "Inputs"}, "if i<p && p>3 <!-- no end", "if i<p && p>3 <!-- no end"),
        ({"whitespace": "Trim"}, " a  b \r\n\r\n\r\n\r\n  c\t\n", " a  b\n\n  c"),
        ({"whitespace": "Collapse"}, " a  b \n\n\n  c\t", "a b\n\nc"),
        ({"personalData": {}}, "to ann.lee@example.org", "to <EMAIL>"),
        ({"personalData": {"kinds": ["Card"]}}, "to ann.lee@example.org", "to ann.lee@example.org"),
    ],
)  # fmt: skip
def test_each_step_makes_of_a_text_what_it_should(step: Any, before: str, after: str) -> None:
    values, log = cleaned({"text": before, "label": before}, step)
    assert values == {"text": after, "label": before}
    assert sum(log.changed.values()) == (before != after)


@given(some.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_step_and_cleaning_twice_changes_nothing_more(text: str) -> None:
    cleaned({"text": text, "label": "x"}, EVERYTHING)
    once = {**EVERYTHING, "html": None, "mojibake": None}  # these peel one layer at a time
    values, _ = cleaned({"text": text, "label": "x"}, once)
    if values is not None:
        again, log = cleaned(values, once)
        assert again == values, log.first


def test_of_a_chat_answers_keep_their_html_unless_told_otherwise() -> None:
    columns = Columns("messages", {"messages": "conversations"}, {})
    turns = [{"from": "human", "value": "<b>How?</b>"}, {"from": "gpt", "value": "<b>So.</b>"}]
    values, log = cleaned({"conversations": turns, "id": 3}, {"html": "Inputs"}, columns)
    assert values["conversations"] == [{"from": "human", "value": "How?"}, turns[1]]
    assert (values["id"], log.changed) == (3, Counter(html=1))
    values, _ = cleaned({"conversations": turns}, {"html": "Everywhere"}, columns)
    assert values["conversations"][1] == {"from": "gpt", "value": "So."}


def test_a_row_that_cannot_be_used_for_another_reason_passes_as_it_is() -> None:
    for text in ("", "  ", 17, None, ["x"]):
        values, log = cleaned({"text": text, "label": "x"}, EVERYTHING)
        assert (values, log.dropped) == ({"text": text, "label": "x"}, Counter())


def test_nothing_left_or_private_leaves_the_row_out_and_shows_no_secret() -> None:
    values, log = cleaned({"text": "<p> </p>", "label": "x"}, {"html": "Inputs"})
    assert (values, log.dropped) == (None, Counter(html=1))
    mail = {"text": "ann.lee@example.org here", "label": "x"}
    values, log = cleaned(mail, {"personalData": {"action": "Drop"}})
    assert values is None
    assert "ann" not in str(log.first)


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "<a b='", "&", "<script>", "</", "<![CDATA[", "<?", "<b>"]
)
def test_hostile_html_takes_time_in_proportion_to_its_length(piece: str) -> None:
    text, started = piece * (200_000 // len(piece)), time.process_time()
    html.without_html(text)
    assert time.process_time() - started < 10


def test_lines_that_many_rows_share_are_found_in_bounded_memory() -> None:
    count, most = boilerplate.LineCount(0.1), 0
    for number in range(30_000):
        own = {f"a line of its own {number}", f"and another one {number}"}
        shared = {"Sent from my phone"} if number % 5 == 0 else set()
        shared |= {"Kind regards, Ann"} if number % 25 == 0 else set()
        count.add(own | shared)
        most = max(most, len(count._counts))
    assert count.common() == {"Sent from my phone"}
    assert most < 2000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Where is my card? I have lost it yesterday.", ""),
        ("Wo ist meine Karte? Ich habe sie gestern verloren.", "de"),
        ("\u042f \u043f\u043e\u0442\u0435\u0440\u044f\u043b \u0441\u0432\u043e\u044e \u043a\u0430\u0440\u0442\u0443 \u0432\u0447\u0435\u0440\u0430, \u0447\u0442\u043e \u043c\u043d\u0435 \u0434\u0435\u043b\u0430\u0442\u044c \u0434\u0430\u043b\u044c\u0448\u0435?", "ru"),
        ("ja, gut", ""),
    ],
)  # fmt: skip
def test_languages_are_told_apart_where_there_is_enough_to_go_by(text: str, found: str) -> None:
    assert language.other(text, ("en",)) == found


def test_the_languages_of_the_contract_are_those_that_are_known() -> None:
    known = set(language._identifier().nb_classes)
    assert set(LANGUAGES) == {code for code in known if len(code) == 2}


WORDS = [f"word{number}" for number in range(300)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" ".join(WORDS), ""),
        ("\n".join([" ".join(WORDS[:8])] * 4 + [" ".join(WORDS[n : n + 8]) for n in (6, 20, 90, 99)]), "lines"),
        (" ".join([*WORDS[:40], *WORDS[:40]]), "repeated runs"),
        (" # ".join(WORDS[:60]), "signs"),
        (" ".join(str(number) for number in range(90)), "hold a letter"),
        ("a few words # # 1 2 3", ""),
    ],
)  # fmt: skip
def test_each_rule_of_quality_finds_its_fault(text: str, why: str) -> None:
    told = quality.fault(text, [text], Quality(), None)
    assert (why in told) if why else not told


def test_bounds_on_words_and_the_fence_judge_the_input() -> None:
    assert "fewer than 3" in quality.fault("one two", [], Quality(min_words=3), None)
    assert "more than 1" in quality.fault("one two", [], Quality(max_words=1), None)
    bounds = quality.fence(quality.size("x" * 20), quality.size("x" * 40), 3)
    assert "too long" in quality.fault("x" * 4000, [], Quality(), bounds)
    assert not quality.fault("x" * 60, [], Quality(), bounds)


NOISE = {
    "html": ("<p>", "</p>"),
    "invisible": ("\u200b", "\ufeff"),
    "whitespace": ("  ", "   \n"),
    "boilerplate": ("", "\nSent from my telephone"),
    "personalData": ("", " Write to ann.lee@example.org"),
}


def dirty(rows: int) -> tuple[list[dict[str, str]], list[str]]:
    """Rows with one planted fault each, and its kind."""
    made, kinds = [], list(NOISE)
    for number in range(rows):
        text = f"please tell me the state of transfer number {number} to my friend"
        kind = kinds[number % len(kinds)]
        before, after = NOISE[kind]
        made.append({"text": before + text + after, "label": "ab"[number % 2]})
    return made, [kinds[number % len(kinds)] for number in range(rows)]


def test_planted_faults_are_all_cleaned_with_their_line_and_nothing_else(desk: Any) -> None:
    rows, kinds = dirty(300)
    rows += [
        {"text": "Bitte sagen Sie mir den Stand meiner \u00dcberweisung, danke sehr", "label": "a"}
    ]
    steps = {**EVERYTHING, "boilerplate": "0.1", "languages": ["en"], "quality": {}}
    clean = Clean.model_validate({**steps, "whitespace": "Trim"})
    result = desk.prepare(desk.rows("rows.jsonl", rows), clean=clean)
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    told = {(one["line"], one["step"]) for one in lines if one["action"] == "changed"}
    assert told == {(line, kind) for line, kind in enumerate(kinds, 1)}
    (gone,) = (one for one in lines if one["action"] == "dropped")
    assert (gone["line"], gone["step"]) == (301, "languages")
    texts = [row["text"] for name in ("train", "validation", "test") for row in pq.read_table(folder / f"{name}.parquet").to_pylist()]  # fmt: skip
    assert all(text.startswith("please tell") and len(text.splitlines()) == 1 for text in texts)
    assert {step.name: (step.changed, step.dropped) for step in result.cleaned} == {
        **dict.fromkeys(NOISE, (60, 0)),
        "languages": (0, 1),
    }
    assert "| html | 60 | 0 |" in (folder / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["sources"][0]["cleaned"] == 1


def test_duplicates_and_leaks_see_clean_texts_and_are_steps(desk: Any) -> None:
    rows = [{"text": f"question number {n}", "label": "ab"[n % 2]} for n in range(60)]
    again = [{"text": f"<p>question number {n}</p>", "label": "ab"[n % 2]} for n in range(5)]
    test = [{"text": f"<i>question number {n}</i>", "label": "ab"[n % 2]} for n in range(50, 60)]
    paths = desk.rows("rows.jsonl", rows + again), desk.rows("test.jsonl", test)
    result = desk.prepare(paths[0], tests=(paths[1],), clean=Clean(html="Inputs"))
    told = {step.name: (step.changed, step.dropped) for step in result.cleaned}
    assert told == {"html": (15, 0), "duplicates": (0, 5), "leaked": (0, 10)}
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    pairs = {(x["line"], int(x["other"].rpartition(":")[2])) for x in lines if "other" in x and x["step"] == "duplicates"}  # fmt: skip
    assert {frozenset(pair) for pair in pairs} == {frozenset((61 + n, 1 + n)) for n in range(5)}


def test_personal_data_set_to_fail_refuses_the_kinds_that_count(desk: Any) -> None:
    rows = [
        {"text": f"question {n} by ann{n}@example.org", "label": "ab"[n % 2]} for n in range(60)
    ]
    path = desk.rows("rows.jsonl", rows)
    fail = {"action": "Fail", "kinds": ["Email"]}
    with pytest.raises(Refused, match=r"personal-data: 60 of 60.*rows.jsonl:1: holds an e-mail"):
        desk.prepare(path, clean=Clean.model_validate({"personalData": fail}))
    other = {"action": "Fail", "kinds": ["Card"]}
    assert desk.prepare(path, clean=Clean.model_validate({"personalData": other})).train


def test_when_nothing_is_left_the_step_is_named(desk: Any) -> None:
    rows = [{"text": f"question {n}", "label": "ab"[n % 2]} for n in range(9)]
    with pytest.raises(Refused, match=r"data\.clean left out: quality 9"):
        desk.prepare(desk.rows("rows.jsonl", rows), clean=Clean(quality=Quality(min_words=5)))


def test_the_command_writes_the_rows_with_all_their_columns_and_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, kinds = dirty(50)
    path, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    path.write_text("".join(json.dumps({**row, "country": "de"}) + "\n" for row in rows))
    steps = ["html=Inputs", "invisible", "whitespace", "boilerplate=0.1", "personalData=Mask"]
    assert main(["clean", str(path), str(out), "--steps", *steps]) == 0
    assert "html: 10 changed" in capsys.readouterr().out
    head, *body = out.read_text().splitlines()
    assert (head, len(body)) == ("text,label,country", 50)
    assert body[0] == "please tell me the state of transfer number 0 to my friend,a,de"
    log = [
        json.loads(line) for line in (tmp_path / "out.csv.cleaned.jsonl").read_text().splitlines()
    ]
    assert [(one["line"], one["step"]) for one in log] == list(enumerate(kinds, 1))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["tidy"], "write one of unicode"),
        (["languages=english"], "cannot be told apart"),
        (["quality.minWords=few"], "quality.minWords"),
        (["personalData=Fail"], "cleans nothing"),
        (["boilerplate=0"], "no step that does anything"),
    ],
)
def test_a_step_that_is_none_is_refused_with_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: list[str], message: str
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n')
    assert main(["clean", str(path), str(tmp_path / "out.jsonl"), "--steps", *steps]) == 64
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path]


def test_wrong_decoding_of_every_latin_letter_is_undone() -> None:
    text = "\u00e4\u00f6\u00fc \u00e9\u00e8\u00ea \u00f1 \u00e7 caf\u00e9 Stra\u00dfe"
    assert letters.repaired(text.encode().decode("latin-1")) == text
