"""The verbs of `oikyo data`, one file each.

A verb's module has `add_arguments(parser)` and `run(arguments) -> exit code`; its docstring is the
help. It is imported when it is called, so that no verb pays for the libraries of another.
"""

from __future__ import annotations

VERBS: dict[str, str] = {
    "check": "find what is wrong with data files, with file and line, before a job does",
    "clean": "clean texts, leave out rows that are none to learn from, and log every change",
    "convert": "write data files in another format or shape, without loss or not at all",
    "diff": "compare two files or versions: rows added, removed, changed, and what drifted",
    "report": "write what is known of the data as one HTML page: what to fix first, and why",
    "trace": "where a row of a version comes from, or what became of a row of a source",
    "review": "rank the rows whose label or answer looks wrong; apply a person's decisions",
}
"""Verb -> one line of help."""
