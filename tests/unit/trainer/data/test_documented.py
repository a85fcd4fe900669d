"""The reference pages name every code that a program may meet."""

from __future__ import annotations

import re
from pathlib import Path

import oikyo_trainer.data
from oikyo.api.checks import CHECKS

DATA = Path(oikyo_trainer.data.__file__).parent
DOCS = Path(__file__).resolve().parents[4] / "docs/reference"
FAULT = re.compile(r'(?:RowFault|BadRow|_Fault)\(\s*(?:[\w.]+,\s*)?"([a-z0-9-]+)"')


def codes_in_source() -> set[str]:
    files = DATA.rglob("*.py")
    return {code for path in files for code in FAULT.findall(path.read_text(encoding="utf-8"))}


def test_every_code_of_a_bad_row_stands_in_the_reference() -> None:
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    codes = codes_in_source()
    assert len(codes) > 10
    assert sorted(code for code in codes if f"`{code}`" not in page) == []


def test_a_code_is_either_a_bad_row_or_a_check() -> None:
    assert codes_in_source() & set(CHECKS) == set()
