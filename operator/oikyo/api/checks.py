"""spec.data.checks: what is looked for in the data, what only warns, what refuses the job.

CHECKS lists every check that a user can set. A new check is one entry here and one call in the
trainer's data/examine.py that adds findings under its code; the field, the CRD, the reference page,
the judgement, status and events follow from the entry (`python -m oikyo.api.crd --write`). An entry
exists only when its check does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from .base import Fraction, Model

Action = Literal["Ignore", "Warn", "Fail"]
Severity = Literal["Error", "Warning", "Info"]


@dataclass(frozen=True)
class Check:
    """One check as it is in force."""

    code: str
    action: Action
    max: str
    """Share of the rows up to which a finding is counted and nothing more, in [0, 1) as text."""
    description: str
    """Of what the rows are: completes "rows that …"."""
    next_step: str
    """What a person does about it."""
    details: str = ""
    """How it is told, for the reference page: more sentences."""


_ALL = (
    Check(
        code="conflicting-answers",
        action="Warn",
        max="0",
        description="have the same input as another row and a different answer",
        next_step="Decide which answer is right and take out the others",
    ),
    Check(
        code="near-duplicate",
        action="Warn",
        max="0.05",
        description="are almost the same as another row that stays",
        next_step="Set data.duplicates.near to Remove to keep one of each, unless they are meant",
        details="They share data.duplicates.similarity of their pairs of neighbouring words, and the "
        "answer or label. Short rows that users really write alike are legitimate.",
    ),
    Check(
        code="near-leak",
        action="Warn",
        max="0.01",
        description="are almost the same as a row of the test set",
        next_step="Set data.duplicates.near to Remove to drop them: the verdict is too good with them",
        details="Of data.testSources; the split of oikyo itself keeps such rows on one side.",
    ),
    Check(
        code="ngram-leak",
        action="Warn",
        max="0.01",
        description="share a long run of words with a row of the test side",
        next_step="Set data.leakage.action to Remove to drop them, or data.split.groupBy to the text that "
        "they have in common, unless it is a template",
        details="A run has data.leakage.ngram words, without case and punctuation; a text of 8 words or "
        "more that is shorter counts as a whole. A run is no leak when half of it stands in more than 20 "
        "test rows and in 5 % of them, or in most of them: that is a template.",
    ),
    Check(
        code="validation-leak",
        action="Warn",
        max="0.01",
        description="share a long run of words with a row of the validation split",
        next_step="Set data.leakage.action to Remove to drop them, or data.split.groupBy to the text that "
        "they have in common, unless it is a template",
        details="Training rows; a run is what it is for ngram-leak. Of more than 8 MiB of validation rows a "
        "sample is looked for, unless data.leakage.action is Remove or this check is set to Fail.",
    ),
    Check(
        code="contaminated",
        action="Warn",
        max="0",
        description="hold an item of a benchmark",
        next_step="Set the benchmark's action to Remove in data.contamination: a score on it means "
        "nothing once its items are learned",
        details="Of data.contamination: a run of data.leakage.ngram words, a whole text of 8 words or "
        "more, or a text of 3 words or more that equals one of the row, without case and punctuation.",
    ),
    Check(
        code="label-typo",
        action="Fail",
        max="0",
        description="have a label that looks like another one mistyped",
        next_step="Write the label as the others do",
        details="The other differs in case, spaces, hyphens or underscores alone; or in one letter of "
        "five or two of eight (a swap of neighbours counts as one) and has fifty times the rows.",
    ),
    Check(
        code="probable-label-error",
        action="Warn",
        max="0.1",
        description="have a label that is probably wrong",
        next_step="Rank and decide them: oikyo data review DATA -o review.csv",
        details="TextClassification with one label a row: the words fit another class better, told by a model "
        "that did not see the row (docs/explanation/data-statistics.md). Of more than 5,000 rows a sample is "
        "looked at, and what it holds is counted. With this check come the outliers of the job's report.",
    ),
    Check(
        code="outlier",
        action="Ignore",
        max="0.05",
        description="share hardly a word with any other row",
        next_step="Look whether they belong: noise, another language, or a rare question",
        details="Of the same sample. Set to Warn or Fail it brings outliers to the report of a job without classes "
        "as well, and more exact topics, for some two seconds of a CPU.",
    ),
    Check(
        code="number-outlier",
        action="Warn",
        max="0",
        description="have a number far from all others",
        next_step="Look whether it stands for a missing one, such as -1 or 999999, or is in another unit; "
        "one such row outweighs hundreds in the squared error",
        details="TextRegression. Farther from the middle half of the numbers than ten times its width.",
    ),
    Check(
        code="placeholder-answer",
        action="Fail",
        max="0",
        description="have a placeholder such as nan or undefined for a label or answer",
        next_step="Write the answer, or take the row out",
    ),
    Check(
        code="answer-cut-off",
        action="Fail",
        max="0.05",
        description="are so long that nothing of the answer is learnt",
        next_step="Shorten the prompts, or raise training.maxLength as far as the model's context",
        details="Their prompt alone fills the model's context or training.maxLength, in tokens of the "
        "base model's tokenizer.",
    ),
    Check(
        code="long-row",
        action="Warn",
        max="0.01",
        description="have more tokens than are learnt: their end is cut",
        next_step="Shorten them, or raise training.maxLength as far as the model's context",
        details="The limit is the model's context or training.maxLength, whichever is less. Of more "
        "than 8 MiB of long rows the rest is estimated, and said to be.",
    ),
    Check(
        code="truncated-answer",
        action="Warn",
        max="0",
        description="have an answer that stops in the middle",
        next_step="Write the answers out, or take the rows out: a model learns to stop there",
        details="It ends in an open block of code, at a comma or an opening bracket, or without a full "
        "stop at the very length at which many others do.",
    ),
    Check(
        code="echoed-answer",
        action="Warn",
        max="0",
        description="have the prompt again for an answer",
        next_step="Write the answer, or take the row out",
    ),
    Check(
        code="garbled-text",
        action="Warn",
        max="0",
        description="hold letters that were decoded wrongly at some time",
        next_step="Export the data again as UTF-8 from where it came",
    ),
    Check(
        code="personal-data",
        action="Warn",
        max="0",
        description="hold an e-mail address, a telephone, card or IBAN number, or a key or token",
        next_step="Mask it in the source: a model can repeat what it has learned",
        details="Told by forms and check digits (Luhn for cards, ISO 7064 for IBANs, the beginnings that "
        "makers give their keys); names and addresses of houses are not found. Excerpts show masks in its "
        "place.",
    ),
    Check(
        code="small-class",
        action="Warn",
        max="0",
        description="are of a class with fewer than 5 training rows",
        next_step="Add rows of the class, or merge it with another",
    ),
    Check(
        code="small-slice",
        action="Warn",
        max="0",
        description="are of a slice that is too small to be learnt or judged",
        next_step="Collect rows of it before judging it",
        details="Of the columns of data.sliceBy: fewer than 30 rows, none in training, or fewer than 10 in the "
        "test split.",
    ),
    Check(
        code="outcome-skew",
        action="Warn",
        max="0",
        description="have an outcome that one slice has far more or less often than the others",
        next_step="Ask why: a real difference, how the rows were collected, or how they were labelled",
        details="Of the columns of data.sliceBy; a label, or an answer longer than the median. The 95 % interval "
        "of the difference of the shares (Newcombe 1998, over all comparisons of the column) lies beyond 5 "
        "points. A difference does not say why, and none does not say that all is well.",
    ),
    Check(
        code="class-imbalance",
        action="Warn",
        max="0.9",
        description="are of the largest class",
        next_step="Add rows of the other classes, and gate on f1_macro, not on accuracy",
    ),
)
CHECKS: Mapping[str, Check] = {check.code: check for check in _ALL}


def _known(code: str) -> str:
    if code not in CHECKS:
        raise ValueError(f"there is no such check; write one of {', '.join(CHECKS)}")
    return code


Code = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": list(CHECKS), "maxLength": 64}),
]


class DataCheck(Model):
    """One check that differs from its default."""

    code: Annotated[
        Code,
        Field(
            description="Which check; docs/reference/data-checks.md lists them with their defaults. "
            "Example: conflicting-answers."
        ),
    ]
    action: Annotated[
        Action | None,
        Field(
            description="What happens when more than `max` of the rows are found: Fail refuses the "
            "job, Warn tells it in status and events, Ignore leaves the check out. Default: that of "
            "the check. Example: Fail."
        ),
    ] = None
    max: Annotated[
        Fraction | None,
        Field(
            description="Share of the rows that may be found, as text, 0 or above and below 1. "
            'Default: that of the check. Example: "0.01".'
        ),
    ] = None


def next_step(code: str) -> str:
    """What a person does about findings of `code`, which may be one of bad rows."""
    known = CHECKS.get(code)
    return known.next_step if known else "Mend the rows, or raise data.maxBadRows to drop them"


def in_force(given: Iterable[DataCheck]) -> dict[str, Check]:
    """Every check by its code, with what `given` sets."""
    checks = dict(CHECKS)
    for item in given:
        check = checks[item.code]
        checks[item.code] = replace(
            check, action=item.action or check.action, max=item.max or check.max
        )
    return checks
