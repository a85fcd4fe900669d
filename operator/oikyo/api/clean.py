"""spec.data.clean: what is taken out of rows, or rows left out, before they are hashed and split.

Every step is off unless it is written. The steps of a row are made in the order of the fields here;
which texts a step touches stands in its description. Labels and votes are never changed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from .base import ATOMIC, Fraction, Model, Rule, Word, in_words

_CODES = """
af am an ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr fy ga gd
gl gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lg ln lo lt lv mg mk
ml mn mr ms mt my ne nl nn no oc om or pa pl ps pt qu ro ru rw sa se si sk sl sn so sq sr st
sv sw ta te tg th tk tl tr tt ug uk ur uz vi vo wa xh yo zh zu
"""
LANGUAGES = tuple(_CODES.split())
"""ISO 639-1 codes of the languages that can be told apart."""

PersonalKind = Literal["Email", "Phone", "Card", "IBAN", "Secret"]
PERSONAL_KINDS: tuple[PersonalKind, ...] = ("Email", "Phone", "Card", "IBAN", "Secret")


def _known(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"cannot be told apart; write one of {', '.join(LANGUAGES)}")
    return code


Language = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": list(LANGUAGES), "maxLength": 2}),
]

_FENCE = "^[1-9][0-9]?([.][0-9])?$"
Fence = Annotated[
    str,
    Field(
        max_length=4,
        pattern=_FENCE,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_FENCE}')",
                'write how many times the middle spread, from 1 to 99.9 as text, for example "3"',
            ),
            instead_of=("pattern",),
        ),
    ),
]


class Quality(Model):
    """Rows that are no text to learn from, after the rules of Gopher (Rae et al. 2021, table A1).

    The rules that look at repetition, signs and letters judge texts of 50 words and more, as there.
    """

    max_repeated_lines: Annotated[
        Fraction,
        Field(
            description='Share of the lines of a text that may repeat an earlier one of it; "0" does not '
            'look. Default: "0.3", as Gopher.'
        ),
    ] = "0.3"
    max_repeated_words: Annotated[
        Fraction,
        Field(
            description="Share of the letters of a text that may stand in runs of five words which it has "
            'had before; "0" does not look. Default: "0.15", as Gopher.'
        ),
    ] = "0.15"
    max_symbols: Annotated[
        Fraction,
        Field(
            description='Signs # and ellipses for each word; "0" does not look. Default: "0.1", as Gopher.'
        ),
    ] = "0.1"
    min_letter_words: Annotated[
        Fraction,
        Field(
            description='Share of the words that must hold a letter; lower it for code and tables, "0" does '
            'not look. Default: "0.8", as Gopher.'
        ),
    ] = "0.8"
    min_words: Annotated[
        int,
        Field(ge=0, le=100_000, description="Fewest words of an input. Default: 0. Example: 3."),
    ] = 0
    max_words: Annotated[
        int | None,
        Field(
            ge=1, le=1_000_000, description="Most words of an input. Default: any. Example: 20000."
        ),
    ] = None
    length_fence: Annotated[
        Fence | None,
        Field(
            description="Inputs whose length lies further beyond the quartiles of all than so many times "
            "the distance of the quartiles, on a logarithmic scale, are left out (Tukey 1977 calls what "
            'lies beyond 3 far out). Reads the sources twice. Default: none. Example: "3".'
        ),
    ] = None

    rules = (
        Rule(
            "!has(self.maxWords) || self.maxWords >= self.minWords",
            "no text has so few and so many words: write maxWords of at least minWords",
            ".maxWords",
        ),
    )


class PersonalData(Model):
    """What becomes of e-mail addresses, numbers of telephones, cards and accounts, and of keys."""

    action: Annotated[
        Literal["Mask", "Drop", "Fail"],
        Field(
            description="Mask writes <EMAIL>, <PHONE>, <CARD>, <IBAN> or <SECRET> in its place, in inputs and "
            "answers; Drop leaves the row out; Fail refuses the job as the check personal-data set to Fail "
            "does. Default: Mask. Example: Drop."
        ),
    ] = "Mask"
    kinds: Annotated[
        tuple[PersonalKind, ...],
        Field(
            min_length=1,
            max_length=5,
            description='What counts. Default: ["Email", "Phone", "Card", "IBAN", "Secret"], which is all.',
            json_schema_extra={
                **ATOMIC,
                **in_words(
                    Rule(
                        "size(self) > 0",
                        "name at least one kind, for example [Email], or leave kinds out",
                    ),
                    instead_of=("minItems",),
                ),
            },
        ),
    ] = PERSONAL_KINDS


class Clean(Model):
    """Steps of cleaning. Learnt and held-out rows are cleaned alike; labels and votes never."""

    unicode: Annotated[
        Literal["NFC", "NFKC"] | None,
        Field(
            description="Normal form of inputs and answers: NFC joins letters and accents, NFKC also writes "
            "full-width letters, ligatures and the like as plain ones. Default: as they are. Example: NFC."
        ),
    ] = None
    mojibake: Annotated[
        Literal["Repair"] | None,
        Field(
            description="Repair turns letters that were decoded wrongly back, where only one reading makes "
            "sense, in inputs and answers. Default: as they are. Example: Repair."
        ),
    ] = None
    invisible: Annotated[
        Literal["Remove"] | None,
        Field(
            description="Remove takes control characters, byte order marks, zero-width and direction marks out "
            "of inputs and answers; joiners that scripts and emoji need stay, and so does NUL, which makes a "
            "row bad. Default: as they are. Example: Remove."
        ),
    ] = None
    html: Annotated[
        Literal["Inputs", "Everywhere"] | None,
        Field(
            description="Takes HTML tags, comments and scripts out and writes entities as letters, in inputs, "
            "or in answers too; code between backticks stays. Default: as they are. Example: Inputs."
        ),
    ] = None
    boilerplate: Annotated[
        Fraction | None,
        Field(
            description="Lines of two words and more that stand in at least this share of the rows with several "
            "lines, such as a signature, are taken out of inputs. Reads the sources twice. Default: none are. "
            'Example: "0.1".'
        ),
    ] = None
    whitespace: Annotated[
        Literal["Trim", "Collapse"] | None,
        Field(
            description="Of inputs and answers: Trim takes away blanks at the ends of the text and of its lines, "
            "but for indentation, and all but one of several blank lines; Collapse also writes runs of blanks inside a line as one, "
            "which spoils code. Default: as they are. Example: Trim."
        ),
    ] = None
    personal_data: Annotated[
        PersonalData | None,
        Field(
            description="What becomes of personal data and keys. Default: they stay and are told (check "
            "personal-data)."
        ),
    ] = None
    languages: Annotated[
        tuple[Language, ...],
        Field(
            max_length=16,
            description="Languages (ISO 639-1) that inputs may have; a row that is told to be of another one "
            "is left out. Inputs of fewer than 20 letters are not judged. Default: any. Example: [en, de].",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    quality: Annotated[
        Quality | None,
        Field(
            description="Rules by which rows are left out as no text to learn from. Default: none; {} sets the "
            "usual ones."
        ),
    ] = None

    @property
    def works(self) -> bool:
        """Whether any row could be changed or left out."""
        masks = self.personal_data is not None and self.personal_data.action != "Fail"
        texts = (self.unicode, self.mojibake, self.invisible, self.html, self.whitespace)
        return masks or any(texts) or bool(self.languages) or self.quality is not None or self.lines

    @property
    def lines(self) -> bool:
        """Whether lines that many rows share are looked for."""
        return self.boilerplate is not None and float(self.boilerplate) > 0

    @property
    def surveys(self) -> bool:
        """Whether all rows must be seen before the first is cleaned."""
        return self.lines or (self.quality is not None and self.quality.length_fence is not None)


CleanStep = Literal[
    "unicode",
    "mojibake",
    "invisible",
    "html",
    "boilerplate",
    "whitespace",
    "personalData",
    "languages",
    "quality",
    "duplicates",
    "nearDuplicates",
    "leaked",
]
"""In the order in which they are made; the last three are made whether cleaning is asked for or not."""


class CleanedStep(Model):
    """What one step of the cleaning did."""

    name: Annotated[Word, Field(description="Step, for example html or duplicates.")]
    changed: Annotated[int, Field(description="Rows that it changed.")] = 0
    dropped: Annotated[int, Field(description="Rows that it left out.")] = 0
