"""Which checks there are, and what a user may set of them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from pydantic import ValidationError

from oikyo.api.checks import CHECKS, DataCheck, in_force


@pytest.mark.parametrize("code", CHECKS)
def test_every_check_has_a_share_and_two_sentences(code: str) -> None:
    check = CHECKS[code]
    assert check.code == code
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert 0 <= Decimal(check.max) < 1
    assert re.fullmatch(r"[a-z].*[^.]", check.description)
    assert re.fullmatch(r"[A-Z].*[^.]", check.next_step)


def test_what_is_not_set_keeps_its_default() -> None:
    default = CHECKS["conflicting-answers"]
    checks = in_force([DataCheck(code="conflicting-answers", max="0.2")])
    assert checks["conflicting-answers"].max == "0.2"
    assert checks["conflicting-answers"].action == default.action
    assert in_force(()) == CHECKS


def test_an_unknown_code_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValidationError, match="write one of conflicting-answers"):
        DataCheck(code="conflicting-answer")
