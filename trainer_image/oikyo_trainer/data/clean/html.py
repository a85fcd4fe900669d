"""What HTML left in a text: tags and comments go, entities become letters.

Only well-formed tags of HTML count: `List<String>`, `<EMAIL>` and `a < b` are text. Code between
backticks stays. The parser is that of the standard library; `_guarded` keeps it linear, because on
tags and comments that never end it would look through the rest of the text once for each.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "center",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "nobr",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "button",
        "caption",
        "col",
        "colgroup",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "header",
        "hr",
        "html",
        "iframe",
        "input",
        "legend",
        "li",
        "link",
        "main",
        "meta",
        "nav",
        "noscript",
        "object",
        "ol",
        "optgroup",
        "option",
        "p",
        "picture",
        "pre",
        "section",
        "select",
        "source",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "textarea",
        "tfoot",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
        "video",
        "audio",
        "canvas",
        "embed",
    ]
)
UNSEEN = frozenset({"script", "style"})
BARE = frozenset(
    [
        "allowfullscreen",
        "async",
        "autofocus",
        "autoplay",
        "checked",
        "compact",
        "controls",
        "default",
        "defer",
        "disabled",
        "download",
        "hidden",
        "ismap",
        "loop",
        "multiple",
        "muted",
        "nofollow",
        "noshade",
        "nowrap",
        "novalidate",
        "open",
        "readonly",
        "required",
        "reversed",
        "selected",
    ]
)
"""Attributes that may stand without a value."""
LONGEST_TAG = 4096
LONGEST_COMMENT = 65536

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_BARE_AMPERSAND = re.compile(
    r"&(?!(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});)"
)
_TAG = re.compile(r"<(?=(!--|/?[A-Za-z]))?")
_MANY_BREAKS = re.compile(r"[ \t]*\n[ \t]*(?:\n[ \t]*)+")


def without_html(text: str) -> str:
    """`text` as a browser would show it, the same object when there is no HTML in it."""
    if "<" not in text and "&" not in text:
        return text
    pieces = _CODE.split(text) if "`" in text else [text]
    blocks = False
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pieces[number], block = _shown(piece)
            blocks = blocks or block
    after = "".join(pieces)
    after = after.strip() if blocks else after
    return text if after == text else after


def _shown(text: str) -> tuple[str, bool]:
    """What is shown of a text without code, and whether a block began or ended in it."""
    if "<" not in text and "&" not in text:
        return text, False
    reader = _Reader()
    reader.feed(_guarded(_BARE_AMPERSAND.sub("&amp;", text)))
    reader.close()
    after = "".join(reader.parts)
    return (_MANY_BREAKS.sub("\n\n", after) if reader.blocks else after), reader.blocks


def _guarded(text: str) -> str:
    """Every `<` that begins nothing, or nothing that ends soon, as an entity."""

    def kept(match: re.Match[str]) -> str:
        if match[1] is None:
            return "&lt;"
        comment = match[1] == "!--"
        start, limit = match.start(), LONGEST_COMMENT if comment else LONGEST_TAG
        end = text.find("-->" if comment else ">", start, start + limit)
        return "<" if end >= 0 else "&lt;"

    return _TAG.sub(kept, text)


class _Reader(HTMLParser):
    """Collects what is shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.blocks = False
        self._unseen: list[str] | None = None
        """What stands in a script so far; it is text after all when the script never ends."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        written = self.get_starttag_text() or ""
        formed = all(value is not None or name in BARE for name, value in attributes)
        if tag in UNSEEN:
            self._unseen = [written]
        elif formed and tag in BLOCKS:
            self._block()
        elif not (formed and tag in INLINE):
            self.handle_data(written.replace("&amp;", "&"))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in UNSEEN:
            return
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag in UNSEEN:
            self._unseen = None
        elif tag in BLOCKS:
            self._block()
        elif tag not in INLINE:
            self.handle_data(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        (self.parts if self._unseen is None else self._unseen).append(data)

    def _block(self) -> None:
        self.blocks = True
        self.parts.append("\n")

    def close(self) -> None:
        super().close()
        if self._unseen is not None:
            self.parts += [part.replace("&amp;", "&") for part in self._unseen]
