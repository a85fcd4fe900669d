"""spec.data.augment: rows that are made of training rows, never of rows that judge."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .base import (
    ATOMIC,
    Decimal,
    Fraction,
    HalfFraction,
    Model,
    Name,
    Rule,
    Word,
    in_words,
    list_map,
)

_TARGET = "^(0[.][0-9]*[1-9][0-9]*|1([.]0+)?)$"
Target = Annotated[
    str,
    Field(
        max_length=12,
        pattern=_TARGET,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_TARGET}')",
                'write a share above 0, at most 1, as text, for example "0.5"',
            ),
            instead_of=("pattern",),
        ),
    ),
]
"""A share in (0, 1] as text."""

WITH_TEXT = Rule("self.contains('{text}')", "write {text} where the text of the row belongs")
Template = Annotated[
    str,
    Field(min_length=6, max_length=4096, json_schema_extra=in_words(WITH_TEXT)),
]
"""A text with the place {text}."""


class Synonyms(Model):
    """A word and those that may stand for it."""

    word: Annotated[
        Word, Field(min_length=1, description="The word, as it stands in the rows. Example: card.")
    ]
    instead: Annotated[
        tuple[Word, ...],
        Field(
            min_length=1,
            max_length=32,
            json_schema_extra=ATOMIC,
            description="Words of which one takes its place. Example: [bank card, debit card].",
        ),
    ]


class Edits(Model):
    """Small changes of words (Wei and Zou 2019, EDA). Words with a digit are left as they are."""

    swap: Annotated[
        HalfFraction,
        Field(
            description='Share of the words that change place with their neighbour. Default: "0.05".'
        ),
    ] = "0.05"
    delete: Annotated[
        HalfFraction, Field(description='Share of the words that are left out. Default: "0.05".')
    ] = "0.05"
    typos: Annotated[
        HalfFraction,
        Field(
            description="Share of the words in which two letters change place, or one is doubled or "
            'left out. Default: "0.0".'
        ),
    ] = "0.0"
    replace: Annotated[
        Fraction,
        Field(
            description="Share of the words with `synonyms` for which one of them is written. "
            'Default: "0.3".'
        ),
    ] = "0.3"
    synonyms: Annotated[
        tuple[Synonyms, ...],
        Field(
            max_length=1024,
            description="Words that may be written for others. Default: none; no list comes along.",
            json_schema_extra=list_map("word"),
        ),
    ] = ()

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.synonyms) && size(self.synonyms) > 0 || self.swap.matches('[1-9]') || "
            "self.delete.matches('[1-9]') || self.typos.matches('[1-9]')",
            "these edits change nothing: write swap, delete or typos above 0, or synonyms",
        ),
    )


_URL = "^https?://[^ @]+$"


class Endpoint(Model):
    """A language model behind an OpenAI-compatible API that says a text in other words."""

    url: Annotated[
        str,
        Field(
            min_length=8,
            max_length=1024,
            pattern=_URL,
            json_schema_extra=in_words(
                Rule(
                    f"self.matches('{_URL}')",
                    "write the address before /chat/completions, for example "
                    "http://paraphraser:8000/v1; the token belongs into secretName",
                ),
                instead_of=("pattern", "minLength"),
            ),
            description="Address before /chat/completions. Example: http://paraphraser:8000/v1.",
        ),
    ]
    model: Annotated[Word, Field(min_length=1, description="Model to ask. Example: gemma.")]
    secret_name: Annotated[
        Name | None,
        Field(
            description="Secret in the same namespace whose key `token` is sent as bearer token; the "
            "prepare pod alone sees it. Default: none. Example: paraphraser."
        ),
    ] = None
    prompt: Annotated[
        Template | None,
        Field(
            description="What is asked, with {text} for the text. Default: none, to rewrite it in other "
            "words and to keep its meaning. Example: 'Say it as an angry customer would: {text}'."
        ),
    ] = None
    through: Annotated[
        tuple[Word, ...],
        Field(
            max_length=16,
            json_schema_extra=ATOMIC,
            description="Languages of a back-translation: instead of `prompt` the text is translated "
            "into one of them and back. Default: none. Example: [German, French].",
        ),
    ] = ()
    language: Annotated[
        Word,
        Field(min_length=1, description="Language of the rows, for `through`. Default: English."),
    ] = "English"
    temperature: Annotated[
        Decimal, Field(description='Temperature of the answers. Default: "0.8".')
    ] = "0.8"
    max_tokens: Annotated[
        int, Field(ge=1, le=16384, description="Longest answer in tokens. Default: 256.")
    ] = 256
    max_requests: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Most requests of a version, cached answers included. Default: 1000.",
        ),
    ] = 1000
    concurrency: Annotated[int, Field(ge=1, le=64, description="Requests at once. Default: 4.")] = 4
    timeout_seconds: Annotated[
        int, Field(ge=1, le=3600, description="Longest wait for one answer. Default: 60.")
    ] = 60

    @property
    def requests_a_row(self) -> int:
        """There and back, or one."""
        return 2 if self.through else 1


class Augment(Model):
    """Synthetic rows: made of training rows, marked as such, and never of rows that judge."""

    per_row: Annotated[
        int,
        Field(
            ge=1,
            le=8,
            description="Synthetic rows made of each training row; the methods take turns. Default: 1.",
        ),
    ] = 1
    balance: Annotated[
        Target | None,
        Field(
            description="Fill every class up to this share of the largest one, and make rows of small "
            "classes alone (TextClassification); without a method rows are repeated. Default: none, "
            'every training row gets perRow synthetic ones. Example: "0.5".'
        ),
    ] = None
    edits: Annotated[Edits | None, Field(description="Change words. Default: none.")] = None
    templates: Annotated[
        tuple[Template, ...],
        Field(
            max_length=64,
            json_schema_extra=ATOMIC,
            description="Texts into which the text of a row is put at {text}. Default: none. "
            'Example: ["Hello, {text}"].',
        ),
    ] = ()
    endpoint: Annotated[
        Endpoint | None,
        Field(description="Ask a language model for other words. Default: none."),
    ] = None
    seed: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="Seed of the choices. Default: 42.")
    ] = 42

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.edits) || has(self.endpoint) || has(self.balance) || "
            "(has(self.templates) && size(self.templates) > 0)",
            "say how rows are made: write edits, templates, endpoint or balance, for example edits: {}",
        ),
    )
