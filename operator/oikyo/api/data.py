"""spec.data: which columns count, how rows are split, what is refused."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .augment import Augment
from .base import ATOMIC, Model, Rule, Word, in_words, list_map
from .checks import DataCheck
from .clean import Clean
from .duplicates import Duplicates
from .fewshot import FewShot
from .leakage import Benchmark, Leakage
from .sources import DataSource, WeightedSource
from .split import Split


class Fields(Model):
    """Which columns carry what. Left out, the usual names are tried and the choice is reported."""

    text: Annotated[
        Word | None,
        Field(
            description="Column with the input text (TextClassification, TextRegression), or with texts to "
            "go on with (TextGeneration without prompt and completion). Default: the first of text, "
            "sentence, content, input. Example: question."
        ),
    ] = None
    label: Annotated[
        Word | None,
        Field(
            description="Column with the class (TextClassification) or the number (TextRegression). "
            "Default: the first of label, category, intent, class; for numbers of label, score, target, "
            "rating, value. Example: category."
        ),
    ] = None
    label_separator: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=8,
            description="Says that a row may have several labels, or none (TextClassification), and what "
            "stands between them where they are text; a list of labels is taken as it is. Default: each "
            'row has one label. Example: ",".',
        ),
    ] = None
    prompt: Annotated[
        Word | None,
        Field(
            description="Column with the prompt (TextGeneration). Default: the first of prompt, "
            "instruction, question. Example: signature."
        ),
    ] = None
    completion: Annotated[
        Word | None,
        Field(
            description="Column with the answer to learn (TextGeneration). Default: the first of "
            "completion, response, output, answer. Example: docstring."
        ),
    ] = None
    messages: Annotated[
        Word | None,
        Field(
            description="Column with a chat: a list of {role, content} (TextGeneration). Default: "
            "messages or conversations when present. Example: messages."
        ),
    ] = None
    chosen: Annotated[
        Word | None,
        Field(
            description="Column with the better answer of a pair: text, or a chat that ends with it "
            "(objectives DPO and ORPO). Default: the first of chosen, preferred, chosen_response. "
            "Example: chosen."
        ),
    ] = None
    rejected: Annotated[
        Word | None,
        Field(
            description="Column with the worse answer of a pair (objectives DPO and ORPO). Default: "
            "the first of rejected, dispreferred, rejected_response. Example: rejected."
        ),
    ] = None
    desirable: Annotated[
        Word | None,
        Field(
            description="Column that says whether the completion is wanted: true or false (objective "
            "KTO). Default: the first of desirable, label, vote, thumbs_up. Example: liked."
        ),
    ] = None


class DataSpec(Model):
    """The data: where it is, which columns count, how it is split."""

    sources: Annotated[
        tuple[WeightedSource, ...],
        Field(
            min_length=1,
            max_length=64,
            description="Files to learn from, 1 to 64.",
            json_schema_extra={
                **list_map("uri"),
                **in_words(
                    Rule(
                        "size(self) > 0",
                        "name at least one file to learn from, for example "
                        "[{uri: pvc://datasets/train.jsonl}]",
                    ),
                    instead_of=("minItems",),
                ),
            },
        ),
    ]
    test_sources: Annotated[
        tuple[DataSource, ...],
        Field(
            max_length=64,
            description="Files that are the hold-out test set and are never trained on; rows that "
            "also stand in `sources` are removed there. Default: none, a share of the rows is held out.",
            json_schema_extra=list_map("uri"),
        ),
    ] = ()
    fields: Annotated[
        Fields, Field(description="Column names. Default: the usual names are tried.")
    ] = Fields()
    split: Annotated[
        Split, Field(description="Shares and seed of the split. Default: 80/10/10, seed 42.")
    ] = Split()
    max_bad_rows: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Rows that may be unreadable or lack a field before the job is refused; such "
            "rows are dropped and counted. Default: 0, every row must be good.",
        ),
    ] = 0
    min_test_rows: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Fewest rows of the test split on which a verdict may rest. Default: 20.",
        ),
    ] = 20
    checks: Annotated[
        tuple[DataCheck, ...],
        Field(
            max_length=64,
            description="Checks that differ from their defaults: what only warns, what refuses the "
            "job, and from which share of the rows on. Default: none; "
            "docs/reference/data-checks.md lists the checks.",
            json_schema_extra=list_map("code"),
        ),
    ] = ()
    clean: Annotated[
        Clean,
        Field(
            description="What is taken out of rows, or rows left out, before they are compared and split. "
            "Default: nothing; docs/how-to/clean-data.md."
        ),
    ] = Clean()
    slice_by: Annotated[
        tuple[Word, ...],
        Field(
            max_length=8,
            description="Columns that group the rows, such as country or channel, at most 8: the report and "
            "the page tell small groups and outcomes that differ between groups (checks small-slice and "
            "outcome-skew), and the columns stay beside the rows. Every file must have them. Default: none. "
            "Example: [country].",
            json_schema_extra={
                **ATOMIC,
                **in_words(
                    Rule(
                        "self.all(one, one != '' && self.exists_one(other, other == one))",
                        "name each column once, for example [country, channel]",
                    ),
                ),
            },
        ),
    ] = ()
    duplicates: Annotated[
        Duplicates,
        Field(
            description="What is done with rows that are almost the same. Default: they share a "
            "side of the split and are told."
        ),
    ] = Duplicates()
    few_shot: Annotated[
        FewShot | None,
        Field(
            description="Examples from the training split with which the tuned and the base model are measured a "
            "second time, so that learning from the prompt and from training compare (TextGeneration). "
            "Default: none. Example: {examples: 4, chooseBy: Similarity}."
        ),
    ] = None
    leakage: Annotated[
        Leakage,
        Field(
            description="What is done with rows that share a long run of words with rows that judge them. "
            "Default: runs of 13 words are looked for and told."
        ),
    ] = Leakage()
    contamination: Annotated[
        tuple[Benchmark, ...],
        Field(
            max_length=32,
            description="Benchmarks whose items training must not contain, 32 files or folders at "
            "most. Default: none.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    augment: Annotated[
        Augment | None,
        Field(description="Synthetic rows for the training split. Default: none."),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.testSources) && size(self.testSources) > 0) || self.split.test.matches('[1-9]')",
            "a verdict needs rows that training never saw: write split.test above 0, or testSources",
            ".split",
        ),
        Rule(
            "!has(self.fewShot) || !has(self.fewShot.classBy) || (self.fewShot.chooseBy == 'Class'"
            " && has(self.sliceBy) && self.fewShot.classBy in self.sliceBy)",
            "the column of a class is carried beside the rows: name it in data.sliceBy too, and write "
            "chooseBy: Class",
            ".fewShot.classBy",
        ),
    )
