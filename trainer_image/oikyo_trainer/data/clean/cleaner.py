"""Rows on their way from the readers to the shapes, cleaned as spec.data.clean says.

Made only when a step is asked for. A row that cannot be used for another reason passes as it is, so
that it is found where such rows are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from oikyo.api.clean import PERSONAL_KINDS, Clean, CleanStep
from oikyo.api.stages import PrepareSpec

from .. import personal
from ..columns import Columns
from ..findings import excerpt
from ..readers.row import Item, Row
from ..sources import DataFile
from . import boilerplate, html, language, letters, quality
from .log import Cleaned, CleanLog
from .row import Kind, rewritten
from .survey import Survey, survey

AROUND = 24
"""Characters before a change that an excerpt shows."""
SHOWN = 400
"""Characters behind the beginning of a change that are looked at for it."""

Step = Callable[[str, Kind], str]


class _Left(Exception):
    """The row is left out: step, reason, and what to show of it."""

    def __init__(self, step: CleanStep, reason: str, text: str = "", column: str = "") -> None:
        self.step, self.reason, self.text, self.column = step, reason, text, column


class Cleaner:
    """The steps that a job asks for; `open_cleaner` makes it."""

    def __init__(self, clean: Clean, log: CleanLog, survey: Survey) -> None:
        self.clean, self.log, self.survey = clean, log, survey
        self._early = _early(clean)
        self._steps = (*self._early, *_late(clean, survey))

    def rows(
        self, items: Iterable[Item], columns: Columns, file: str, left_out: Callable[[], None]
    ) -> Iterator[Item]:
        """The items that stay, cleaned; tells `left_out` of each that does not."""
        for item in items:
            kept = self.row(item, columns, file) if isinstance(item, Row) else item
            if kept is None:
                left_out()
            else:
                yield kept

    def row(self, row: Row, columns: Columns, file: str) -> Row | None:
        """The row as it is learnt from, or None when it is left out; either is logged."""
        made: list[Cleaned] = []
        texts: list[tuple[Kind, str]] = []

        def change(text: str, kind: Kind, column: str) -> str:
            after = self._changed(text, kind, column, made, file, row.line)
            texts.append((kind, after))
            return after

        try:
            values = rewritten(row.values, columns, change)
            self._judge(texts)
        except _Left as why:
            shown = excerpt(why.text)
            self.log.add(
                Cleaned(file, row.line, why.step, "dropped", why.reason, why.column, shown)
            )
            return None
        for one in made:
            self.log.add(one)
        return row if values is row.values else Row(row.line, values)

    def _changed(
        self, text: str, kind: Kind, column: str, made: list[Cleaned], file: str, line: int
    ) -> str:
        if not text or text.isspace():
            return text  # a bad row, and found as one
        for name, reason, step in self._steps:
            after = step(text, kind)
            if after is text or after == text:
                continue
            if not after or after.isspace():
                raise _Left(name, f"nothing is left of it: {reason}", text, column)
            if all(one.step != name for one in made):
                before, now = _around(text, after)
                made.append(Cleaned(file, line, name, "changed", reason, column, before, now))
            text = after
        return text

    def _judge(self, texts: list[tuple[Kind, str]]) -> None:
        """Raise _Left when the row goes as a whole."""
        asked = "\n".join(text for kind, text in texts if kind == "Input")
        if not asked.strip():
            return  # a bad row, and found as one
        private = self.clean.personal_data
        if private is not None and private.action == "Drop":
            for _, text in texts:
                if kinds := {one.kind for one in personal.find(text)}.intersection(private.kinds):
                    names = " and ".join(sorted(personal.NAMES[kind] for kind in kinds))
                    raise _Left("personalData", f"holds {names}", text)
        if self.clean.languages and (found := language.other(asked, self.clean.languages)):
            raise _Left("languages", f"its language is {found}", asked)
        rules = self.clean.quality
        if rules is not None:
            learnt = [text for kind, text in texts if kind != "System"]
            if why := quality.fault(asked, learnt, rules, self.survey.fence):
                raise _Left("quality", why, asked)

    def inputs(self, row: Row, columns: Columns) -> str:
        """What the survey sees of a row: its input after the steps before boilerplate."""
        texts: list[str] = []

        def collect(text: str, kind: Kind, column: str) -> str:
            if kind == "Input":
                for _, _, step in self._early:
                    text = step(text, kind)
                texts.append(text)
            return text

        rewritten(row.values, columns, collect)
        return "\n".join(texts)


Named = tuple[CleanStep, str, Step]
"""A step, what it says of itself in the log, and the change."""


def _early(clean: Clean) -> tuple[Named, ...]:
    """The steps that need no other row."""
    steps: list[Named] = []
    form, where = clean.unicode, clean.html
    if form is not None:
        steps.append(("unicode", f"written in {form}", lambda text, _: letters.normal(text, form)))
    if clean.mojibake is not None:
        steps.append(("mojibake", "decoded again", lambda text, _: letters.repaired(text)))
    if clean.invisible is not None:
        steps.append(
            ("invisible", "unseen characters removed", lambda text, _: letters.visible(text))
        )
    if where is not None:
        everywhere = where == "Everywhere"
        steps.append(
            (
                "html",
                "HTML removed",
                lambda text, kind: (
                    html.without_html(text) if everywhere or kind != "Answer" else text
                ),
            )
        )
    return tuple(steps)


def _late(clean: Clean, found: Survey) -> tuple[Named, ...]:
    steps: list[Named] = []
    if found.lines:
        steps.append(
            (
                "boilerplate",
                "lines that many rows share removed",
                lambda text, kind: (
                    boilerplate.without_lines(text, found.lines) if kind == "Input" else text
                ),
            )
        )
    if clean.whitespace is not None:
        blanks = letters.trimmed if clean.whitespace == "Trim" else letters.collapsed
        steps.append(("whitespace", "blanks removed", lambda text, _: blanks(text)))
    private = clean.personal_data
    if private is not None and private.action == "Mask":
        kinds = private.kinds
        steps.append(
            ("personalData", "personal data masked", lambda text, _: personal.masked(text, kinds))
        )
    return tuple(steps)


def _around(before: str, after: str) -> tuple[str, str]:
    """Both texts from shortly before the first difference; masked whole, since a part of a key is a key."""
    start = _alike(before, after)
    one, two = (personal.masked(text[: start + SHOWN], PERSONAL_KINDS) for text in (before, after))
    start = start if one == two else _alike(one, two)
    start = max(0, start - AROUND)
    return excerpt(one[start:]), excerpt(two[start:])


def _alike(one: str, two: str) -> int:
    """Characters that both begin with."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(two)))


def open_cleaner(spec: PrepareSpec, files: Iterable[DataFile], log: CleanLog) -> Cleaner | None:
    """The cleaner of a job, None when nothing is asked for; `files` are those that are learnt from."""
    if not spec.clean.works:
        return None
    cleaner = Cleaner(spec.clean, log, Survey())
    if not spec.clean.surveys:
        return cleaner
    return Cleaner(spec.clean, log, survey(spec, files, cleaner.inputs))
