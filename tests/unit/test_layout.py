"""The folder `operator` must never become a package: it would shadow the standard library's."""

from __future__ import annotations

import operator
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_operator_is_the_standard_librarys() -> None:
    assert Path(operator.__file__).parent == Path(sysconfig.get_paths()["stdlib"])


def test_no_folder_named_operator_is_a_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "tests" / "operator" / "__init__.py").exists()
