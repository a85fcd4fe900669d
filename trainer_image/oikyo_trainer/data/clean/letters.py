"""Letters and blanks of a text: normal form, wrong decoding, invisible characters, white space."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import ftfy

_CONTROLS = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_MARKS = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
"""Soft hyphens, zero-width spaces, direction and byte order marks: none of them is seen."""
_JOINERS = re.compile("(?<=[\x00-\u024f])[\u200c\u200d]+(?=[\x00-\u024f]|$)")
"""Joiners mean something in Indic and Arabic scripts and in emoji, and nothing between Latin letters."""
_LINE_ENDS = re.compile("[^\\S\n]+(?=\n)")
_BLANK_LINES = re.compile("\n{3,}")
_BLANKS = re.compile("[^\\S\n]+")


def normal(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Unicode normal form."""
    return (
        text
        if text.isascii() or unicodedata.is_normalized(form, text)
        else unicodedata.normalize(form, text)
    )


@cache
def _repairs() -> ftfy.TextFixerConfig:
    """Wrong decoding alone: quotes, widths, line breaks and the like are other steps or nobody's business."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def repaired(text: str) -> str:
    """`text` with mojibake read as it was meant."""
    if text.isascii():
        return text
    from ftfy import fix_text  # 40 ms, which only this step needs

    return fix_text(text, _repairs())


def visible(text: str) -> str:
    """`text` without what nobody sees; NUL stays, because it makes a row bad."""
    text = _CONTROLS.sub("", text)
    return text if text.isascii() else _JOINERS.sub("", _MARKS.sub("", text))


def trimmed(text: str) -> str:
    """Without blanks at the ends of the text and of its lines; at most one blank line at a place.

    Of several lines the first keeps its indentation: it may be code.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _BLANK_LINES.sub("\n\n", _LINE_ENDS.sub("", text.rstrip()).lstrip("\n"))
    return text if "\n" in text else text.strip()


def collapsed(text: str) -> str:
    """As `trimmed`, and runs of blanks as one space."""
    return _BLANKS.sub(" ", trimmed(text)).replace("\n ", "\n").strip()
