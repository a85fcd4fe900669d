"""The command line: `oikyo VERB`. One file per verb; a verb imports what it needs when it is called."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    from .app import run_command

    sys.exit(run_command(sys.argv[1:] if argv is None else argv))
