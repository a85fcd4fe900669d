"""The recipe of data.augment: plan, make, leave out what must not train, add to the training split.

Called by prepare after the split, so a synthetic row is always made of a training row and always trains.
It has the file and line of that row, the mark of its method, and counts in the digest of the version.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api.augment import Augment
from oikyo.api.stages import PrepareSpec

from .. import personal
from ..examine import Examined
from ..example import Convert, Example, converter
from ..findings import BadRow
from ..keys import normalise
from ..near.shingles import mix
from ..piece import Form
from ..pieces import piece_of
from ..readers.row import Row
from ..slicing import SliceColumns
from ..split import TRAIN
from ..spool import Index, Rows, Spool
from . import compose, edits, leaks
from .endpoint import Paraphraser
from .joined import Joined, joined
from .plan import METHODS, Plan, plan

log = logging.getLogger("oikyo.data")

FILE = "augmented.arrow"
TIMES, MORE = 4, 200
"""An answer longer than TIMES the text and MORE characters rambles."""
REPEAT = METHODS.index("repeat")
Told = dict[str, Any]  # JSON


@dataclass
class Making:
    """What is being made, and why something was not."""

    spec: PrepareSpec
    how: Augment
    spool: Spool
    form: Form
    convert: Convert
    sources: list[int]
    methods: list[int]
    copies: list[int]
    dropped: Counter[str]


def augment(
    spec: PrepareSpec,
    how: Augment,
    data: Examined,
    slices: SliceColumns | None,
    staging: Path,
    workspace: Path,
) -> tuple[Examined, Told]:
    """`data` with synthetic rows in its training split, and what report.json tells of them.

    `slices` takes the values of the rows that these were made of.
    """
    compose.check(data.spool.shape)
    wanted = plan(how, data.rows, np.flatnonzero(data.sides == TRAIN))
    shape = data.spool.shape
    form = Form(compose.columns(shape), spec.split, test=False)
    spool = Spool(staging / FILE, shape)
    made = Making(spec, how, spool, form, converter(form.columns), [], [], [], Counter())
    paraphraser = None
    if how.endpoint is not None:
        paraphraser = Paraphraser(how.endpoint, how.seed, workspace, spec.augment_secret)
    try:
        for start, table in _texts(data, wanted):
            _make(made, data.rows, wanted, start, table, paraphraser)
    finally:
        made.spool.close()
        if paraphraser is not None:
            paraphraser.close()
    if slices is not None:
        slices.repeat(np.array(made.sources, np.int64))
    return _added(made, data, staging, wanted)


def _texts(data: Examined, wanted: Plan) -> Iterator[tuple[int, list[compose.Payload]]]:
    start = 0
    for piece, table in data.spool.gather(wanted.rows, data.rows.lengths):
        yield start, table.to_pylist()
        start += len(piece)


def _make(
    made: Making,
    rows: Rows,
    wanted: Plan,
    start: int,
    payloads: list[compose.Payload],
    paraphraser: Paraphraser | None,
) -> None:
    """Make the rows of one piece of the plan."""
    texts = [compose.text_of(made.form.columns.shape, payload) for payload in payloads]
    places = range(start, start + len(payloads))
    methods = [METHODS[wanted.methods[place]] for place in places]
    asked = [n for n, method in enumerate(methods) if method == "endpoint"]
    answers, examples = {}, list[Example]()
    if paraphraser is not None:
        copies = [int(wanted.copies[start + n]) for n in asked]
        told = paraphraser.answers([texts[n] for n in asked], copies)
        answers = dict(zip(asked, told, strict=True))
    for number, place in enumerate(places):
        row, text = int(wanted.rows[place]), texts[number]
        if number in answers:
            new, fault = answers[number]
            fault = fault or _fault(text, new)
        else:
            new, fault = _local(made.how, methods[number], text, rows, row, wanted, place), ""
        if not fault and methods[number] != "repeat" and normalise(new) == normalise(text):
            fault = "identical"
        values = compose.with_text(made.form.columns.shape, payloads[number], new)
        example = made.convert(Row(int(rows.lines[row]), values))
        if fault or isinstance(example, BadRow):
            made.dropped[fault or "unusable"] += 1
            continue
        examples.append(example)
        made.sources.append(row)
        made.methods.append(int(wanted.methods[place]))
        made.copies.append(int(wanted.copies[place]))
    made.spool.add(piece_of(made.form, examples), 0)


def _local(
    how: Augment, method: str, text: str, rows: Rows, row: int, wanted: Plan, place: int
) -> str:
    copy = int(wanted.copies[place])
    if method == "edits" and how.edits is not None:
        dice = edits.dice(how.seed, rows.rows[row].astype(">u8").tobytes(), copy)
        return edits.edited(text, how.edits, dice)
    if method == "templates":
        turn = int(rows.rows[row, 0] % np.uint64(len(how.templates))) + copy
        return how.templates[turn % len(how.templates)].replace("{text}", text)
    return text


def _fault(text: str, answer: str) -> str:
    """What is wrong with an answer, beside what the endpoint itself said."""
    if len(answer) > TIMES * len(text) + MORE:
        return "rambling-answer"
    known = {text[one.start : one.end] for one in personal.find(text)}
    new = {answer[one.start : one.end] for one in personal.find(answer)}
    return "personal-data" if new - known else ""


def _added(made: Making, data: Examined, staging: Path, wanted: Plan) -> tuple[Examined, Told]:
    """The rows of the sources and those that were made, without those that must not train."""
    sources, methods = np.array(made.sources, np.int64), np.array(made.methods, np.int8)
    rows = joined(data.rows, made.spool.columns(), sources, methods)
    spool = Joined(data.spool, made.spool)
    new = np.arange(len(data.rows), len(rows))
    # The id names one row of a version: a repetition has its own, from that of its row and its number.
    again = np.flatnonzero(methods == REPEAT)
    numbers = np.array(made.copies, np.uint64)[again]
    rows.rows[new[again], 1] ^= mix(numbers + np.uint64(1))
    sides = np.concatenate([data.sides, np.full(len(new), TRAIN, dtype=np.int8)])
    for reason, mask in _unfit(made, data, rows, spool, new, methods, staging):
        gone = mask & (sides[new] == TRAIN)
        made.dropped[reason] += int(gone.sum())
        sides[new[gone]] = -1
    told = _told(made, rows, sides, new, methods, wanted)
    log.info("augment: %d synthetic rows; dropped: %s", told["rows"], dict(made.dropped) or "none")
    # Templates and answers may be longer than any row of a source: then the plan of the memory counts
    # with training.maxLength.
    grows = bool(made.how.templates) or made.how.endpoint is not None
    longest = 0 if grows else data.longest
    lessons = data.lessons.with_made(sources)
    made_data = replace(data, spool=spool, rows=rows, sides=sides, longest=longest, lessons=lessons)
    return made_data, told


def _unfit(
    made: Making,
    data: Examined,
    rows: Rows,
    spool: Spool,
    new: Index,
    methods: Any,
    staging: Path,
) -> Iterator[tuple[str, Any]]:
    held, train = np.flatnonzero(data.sides > TRAIN), np.flatnonzero(data.sides == TRAIN)
    reworded = methods != REPEAT
    yield "leaked", leaks.exact(rows, held, new) & reworded
    yield "duplicate", leaks.repeated(rows, train, new) & reworded
    if made.spec.duplicates.near != "Ignore":
        threshold = float(made.spec.duplicates.similarity)
        scratch = staging / "augment.bands"
        alike = np.zeros(len(new), dtype=bool)
        alike[reworded] = leaks.near(spool, rows, held, new[reworded], threshold, scratch)
        yield "near-leak", alike


def _told(made: Making, rows: Rows, sides: Any, new: Index, methods: Any, wanted: Plan) -> Told:
    kept = sides[new] == TRAIN
    told: Told = {
        "rows": int(kept.sum()),
        "of": len(np.unique(np.array(made.sources, np.int64)[kept])),
        "seed": made.how.seed,
        "methods": {
            name: {
                "asked": int((wanted.methods == number).sum()),
                "rows": int((kept & (methods == number)).sum()),
            }
            for number, name in enumerate(METHODS)
            if (wanted.methods == number).any()
        },
        "dropped": {reason: count for reason, count in sorted(made.dropped.items()) if count},
    }
    if rows.labels:
        counts = np.bincount(rows.label_codes[new[kept]], minlength=len(rows.labels))
        told["labels"] = {rows.labels[c]: int(counts[c]) for c in np.argsort(rows.labels)}
    return told
