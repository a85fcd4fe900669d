"""Personal data is found in every usual form, and numbers of another kind are not taken for it."""

from __future__ import annotations

import base64
import inspect
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from oikyo.api.clean import PersonalKind
from oikyo_trainer.data import personal

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD = LETTERS + LETTERS.upper() + "0123456789"
LEAST_RECALL = 0.98
EACH = 200
TEXTS = (
    "{}",
    "Please write to {} before Friday.",
    "contact: {}, thanks",
    "My details ({}) have changed",
    "Is {}\nstill right?",
)


def letters(rng: random.Random, count: int, of: str = LETTERS) -> str:
    return "".join(rng.choice(of) for _ in range(count))


def email(rng: random.Random) -> str:
    local = rng.choice(
        [
            letters(rng, 5),
            f"{letters(rng, 3)}.{letters(rng, 6)}",
            f"{letters(rng, 2)}+{letters(rng, 3)}",
        ]
    )
    domain = rng.choice(
        [letters(rng, 6), f"mail.{letters(rng, 4)}", f"{letters(rng, 3)}-{letters(rng, 3)}"]
    )
    return f"{local}@{domain}.{rng.choice(['org', 'com', 'co.uk', 'de', 'museum'])}"


def digits(rng: random.Random, count: int) -> str:
    return letters(rng, count, "0123456789")


def phone(rng: random.Random) -> str:
    first = rng.choice("23456789")
    us = (f"{first}{digits(rng, 2)}", f"{rng.choice('23456789')}{digits(rng, 2)}", digits(rng, 4))
    return rng.choice(
        [
            f"+49 {rng.choice(['30', '89', '171'])} {digits(rng, 7)}",
            f"+44 20 {digits(rng, 4)} {digits(rng, 4)}",
            f"+1{us[0]}{us[1]}{us[2]}",
            f"({us[0]}) {us[1]}-{us[2]}",
            f"{us[0]}-{us[1]}-{us[2]}",
            f"0{rng.choice(['30', '89', '171'])} {digits(rng, 7)}",
            f"0{rng.choice('123456')} " + " ".join(digits(rng, 2) for _ in range(4)),
        ]
    )


def card(rng: random.Random) -> str:
    begin, length = rng.choice(
        [("4", 16), ("51", 16), ("55", 16), ("34", 15), ("37", 15), ("6011", 16)]
    )
    body = begin + digits(rng, length - len(begin) - 1)
    number = next(body + str(last) for last in range(10) if personal.luhn(body + str(last)))
    return rng.choice([number, " ".join(number[at : at + 4] for at in range(0, length, 4))])


def iban(rng: random.Random) -> str:
    country, length = rng.choice([("DE", 22), ("GB", 22), ("FR", 27), ("NL", 18), ("NO", 15)])
    bank = letters(rng, 4).upper() if country in ("GB", "NL") else digits(rng, 4)
    body = bank + digits(rng, length - 8)
    number = next(
        f"{country}{check:02d}{body}"
        for check in range(2, 99)
        if personal.mod97(f"{country}{check:02d}{body}")
    )
    return rng.choice([number, " ".join(number[at : at + 4] for at in range(0, length, 4))])


def secret(rng: random.Random) -> str:
    upper = letters(rng, 16, LETTERS.upper() + "0123456789")
    part = [
        base64.urlsafe_b64encode(json.dumps({"a": letters(rng, 12)}).encode()).decode().rstrip("=")
        for _ in range(2)
    ]
    return rng.choice(
        [
            f"AKIA{upper}",
            f"ghp_{letters(rng, 36, WORD)}",
            f"xoxb-{digits(rng, 11)}-{letters(rng, 24, WORD)}",
            f"hf_{letters(rng, 34, WORD)}",
            f"sk-{letters(rng, 20, LETTERS)}{digits(rng, 4)}{letters(rng, 8, WORD)}",
            f"{part[0]}.{part[1]}.{letters(rng, 43, WORD)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{letters(rng, 200, WORD)}\n-----END RSA PRIVATE KEY-----",
        ]
    )


@pytest.mark.parametrize(
    ("kind", "make"),
    [("Email", email), ("Phone", phone), ("Card", card), ("IBAN", iban), ("Secret", secret)],
)
def test_what_was_planted_is_found_and_masked(
    kind: PersonalKind, make: Callable[[random.Random], str]
) -> None:
    rng = random.Random(kind)
    missed = []
    for number in range(EACH):
        planted = make(rng)
        text = TEXTS[number % len(TEXTS)].format(planted)
        found = personal.find(text)
        masked = personal.mask(text, found)
        if [one.kind for one in found] != [kind] or masked != text.replace(
            planted, personal.MASKS[kind]
        ):
            missed.append((text, masked))
    assert len(missed) <= (1 - LEAST_RECALL) * EACH, missed[:5]


@pytest.mark.parametrize(
    "text",
    [
        "released 2024-03-17 at 10:15:30.123456, build 20240317101530",
        "version 10.12.3.4567, Python 3.11.7, ISBN 978-3-16-148410-0",
        "it costs 1,299.00 or 1.234.567,89; pi is 3.14159265358979",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "id 123e4567-e89b-12d3-a456-426614174000, order 1234567890123",
        "card 4111 1111 1111 1112 has a wrong check digit",
        "@property, user@localhost, price @ 5, foo@bar",
        "sk-learn and hf_hub are packages; the bearer of this letter",
        "rows 100 200 300 400 500 600 700",
        "call it with (1, 2, 3) or 0.125",
    ],
)
def test_numbers_of_another_kind_are_left_alone(text: str) -> None:
    assert personal.mask(text, personal.find(text)) == text


def test_real_documentation_gives_next_to_no_false_alarm() -> None:
    texts = [text for text in _docstrings() if "@" not in text]
    assert len(texts) > 3000
    alarms = [text for text in texts if personal.find(text)]
    assert len(alarms) <= len(texts) // 1000, alarms[:5]


def test_whatever_is_found_is_a_candidate_of_the_scan() -> None:
    rng = random.Random(1)
    texts = [make(rng) for make in (email, phone, card, iban, secret) for _ in range(EACH)]
    passed = pc.match_substring_regex(pa.array(texts), personal.CANDIDATE).to_pylist()
    slipped = [text for text, kept in zip(texts, passed, strict=True) if not kept]
    assert not [text for text in slipped if personal.find(text)]


def _docstrings() -> list[str]:
    """Of the standard library's modules that are loaded, and of what they define."""
    found: set[str] = set()
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(sys.base_prefix):
            things: list[Any] = [module, *vars(module).values()]
            things += [
                part for thing in things if inspect.isclass(thing) for part in vars(thing).values()
            ]
            found |= {
                text for thing in things if isinstance(text := getattr(thing, "__doc__", None), str)
            }
    return sorted(found)
