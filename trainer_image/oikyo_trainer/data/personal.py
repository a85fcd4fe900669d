"""Personal data and secrets in a text: where they stand, and the text with masks in their place.

The one detector of the project: the check personal-data and the excerpts of messages use it. Forms and
check digits are looked at, never names or meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from oikyo.api.clean import PersonalKind

from . import secrets

MASKS: dict[PersonalKind, str] = {
    "Email": "<EMAIL>",
    "Phone": "<PHONE>",
    "Card": "<CARD>",
    "IBAN": "<IBAN>",
    "Secret": "<SECRET>",
}
NAMES: dict[PersonalKind, str] = {
    "Email": "an e-mail address",
    "Phone": "a telephone number",
    "Card": "a card number",
    "IBAN": "an IBAN",
    "Secret": "a key or token",
}
CANDIDATE = r"@|[0-9](?:[ ./()-]{0,3}[0-9]){6}|" + secrets.BEGINNINGS
"""RE2: a text without it holds nothing of what is looked for here."""
_MAY_HOLD = re.compile(CANDIDATE)


class Found(NamedTuple):
    """One piece of personal data in a text."""

    start: int
    end: int
    kind: PersonalKind


def find(text: str) -> list[Found]:
    """All that stands in `text`, in order, not overlapping; of two at one place the surer stays."""
    digits = _DIGITS.search(text) is not None
    found: list[Found] = []
    for kind in ORDER:
        if digits or kind not in _NUMERIC:
            found += _free(found, (Found(*span, kind) for span in _FINDERS[kind](text)))
    return sorted(found) if len(found) > 1 else found


def mask(text: str, found: Iterable[Found]) -> str:
    """`text` with a mask in place of each of `found`."""
    parts, end = [], 0
    for one in found:
        parts += [text[end : one.start], MASKS[one.kind]]
        end = one.end
    return "".join([*parts, text[end:]])


def masked(text: str, kinds: Sequence[PersonalKind]) -> str:
    """`text` with masks for what is of `kinds`; the same object when there is nothing of it."""
    if not _MAY_HOLD.search(text):
        return text
    found = [one for one in find(text) if one.kind in kinds]
    return mask(text, found) if found else text


def _free(taken: list[Found], found: Iterable[Found]) -> list[Found]:
    return [
        one
        for one in found
        if not any(one.start < other.end and other.start < one.end for other in taken)
    ]


Spans = Iterator[tuple[int, int]]
_DIGITS = re.compile(r"[0-9]")

_DOMAIN = re.compile(
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_LOCAL = re.compile(r"(?:\"[^\"\n]{1,62}\"|[\w.%+'/=-]{1,64})\Z")


def _emails(text: str) -> Spans:
    """From the '@' both ways: a scan for the local part alone would visit every letter."""
    if "@" not in text:
        return
    for domain in _DOMAIN.finditer(text):
        at = domain.start()
        local = _LOCAL.search(text, max(0, at - 64), at)
        if local:
            lead = len(local[0]) - len(local[0].lstrip(".'/=%-"))
            if lead < len(local[0]):
                yield local.start() + lead, domain.end()


_CARD = re.compile(r"(?<![\w.,+-])[23456][0-9]{3}(?:[ -]?[0-9]){9,15}(?![\w-]|[.,][0-9])")
_CARD_BEGINS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})$|(?:5[1-5]|2[3-6]\d|27[01]|22[3-9]|222[1-9]|2720)\d*$(?<=^.{16})"
    r"|3[47]\d{13}$|3(?:0[0-5]|[689]\d)\d{11,13}$|35\d{14}$|6(?:011|4[4-9]\d|5\d\d)\d{12,15}$"
    r"|62\d{14,17}$|(?:50|5[6-9]|6[0-9])\d{14}$"
)


def _cards(text: str) -> Spans:
    for number in _CARD.finditer(text):
        digits = re.sub(r"\D", "", number[0])
        if _CARD_BEGINS.match(digits) and luhn(digits):
            yield number.span()


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812-1."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA",
        30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""Country -> characters, from the registry of ISO 13616."""


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        places = [place for place, letter in enumerate(match[0]) if letter.isalnum()][:length]
        if not length or len(places) < length:
            continue
        end = match.start() + places[-1] + 1
        compact = "".join(match[0][place] for place in places)
        if mod97(compact) and not text[end : end + 1].isalnum():
            yield match.start(), end


def mod97(compact: str) -> bool:
    """Whether the check digits of an IBAN without blanks are right (ISO 7064)."""
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


_E164 = re.compile(
    r"(?<![\w.,+*/^=-])(?:\+|00(?=[1-9]))[1-9](?:[ .()/-]{0,3}[0-9]){6,14}(?![\w]|[.,][0-9])"
)
_NANP = re.compile(
    r"(?<![\w.,+*/^-])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}([ .-]))[2-9][0-9]{2}"
    r"(?(1)\1|[ .-])[0-9]{4}(?![\w-]|[.,][0-9])"
)
_TRUNK = re.compile(
    r"(?<![\w.,:+*/^-])(?:\(0[1-9][0-9]{0,4}\)[ -]?[0-9]{2,}|0[1-9][0-9]{1,4}[ /-]{1,3}[0-9]{3,}|0[1-9](?:[ .-][0-9]{2}){3})"
    r"(?:[ .-][0-9]{2,})*(?![\w:-]|[.,/][0-9])"
)
_DATE = re.compile(r"0[1-9]([/.-])[0-9]{2}\1(?:19|20)?[0-9]{2}(?!\1?[0-9])")
_CALLED = re.compile(
    r"(?i)\b(?:tel(?:efon|ephone|efono|ephon)?|phone|mobile?|handy|cell|call(?: me)?(?: (?:on|at))?|fax|"
    r"text(?: me)?(?: (?:on|at))|ring(?: me)?(?: (?:on|at))|whatsapp|sms|num(?:ber|mer|ero))\b"
    r"(?:[ .:#]| is | no| nr){0,4}(?P<number>\(?[0-9](?:[ .()/-]{0,2}[0-9]){6,14})(?![\w]|[.,][0-9])"
)


def _phones(text: str) -> Spans:
    for number in _E164.finditer(text):
        if _count(number[0]) <= 15 and not _is_sum(text, number):
            yield number.span()
    yield from (number.span() for number in _NANP.finditer(text))
    for number in _TRUNK.finditer(text):
        if 8 <= _count(number[0]) <= 12 and not _DATE.match(number[0]):
            yield number.span()
    yield from (number.span("number") for number in _CALLED.finditer(text))


def _is_sum(text: str, number: re.Match[str]) -> bool:
    """`1 +2345678`: a plus behind a number or a bracket adds."""
    return number[0][0] == "+" and text[: number.start()].rstrip(" ")[-1:] in set("0123456789)]")


def _count(number: str) -> int:
    return sum(letter.isdigit() for letter in number)


_FINDERS: dict[PersonalKind, Callable[[str], Spans]] = {
    "Secret": secrets.spans,
    "Email": _emails,
    "IBAN": _ibans,
    "Card": _cards,
    "Phone": _phones,
}
ORDER = tuple(_FINDERS)
"""The surer first: a card is never a telephone number."""
_NUMERIC = frozenset({"IBAN", "Card", "Phone"})
