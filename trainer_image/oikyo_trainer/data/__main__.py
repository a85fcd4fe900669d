"""python -m oikyo_trainer.data VERB ...: work with data files without a job; `oikyo data` calls it."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any

from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED

from ..errors import Refused
from .commands import VERBS

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells write it."""
CUT_SHORT = 141
"""The same of one whose reader has seen enough: `oikyo data check FILE | head`."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    verb = given[0] if given and given[0] in VERBS else None
    try:
        code = _run(verb, given) if verb else _help(given)
        sys.stdout.flush()
        return code
    except Refused as error:
        print(f"error: {error.message}\n       {error.next_step}".rstrip(), file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still to be written at the end would raise again (docs.python.org, signal: SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_SHORT


def _run(verb: str, given: list[str]) -> int:
    module: Any = import_module(f"{__package__}.commands.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"oikyo data {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=True,
    )
    module.add_arguments(parser)
    try:
        arguments = parser.parse_args(given[1:])
    except SystemExit as ended:  # argparse has said why; its own code, 2, means "gates failed" here
        return EXIT_REFUSED if ended.code else EXIT_DONE
    code: int = module.run(arguments)
    return code


def _help(given: list[str]) -> int:
    width = max(map(len, VERBS), default=0)
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    print("Usage: oikyo data VERB ...\n", *lines, "\noikyo data VERB --help says more.", sep="\n")
    return EXIT_DONE if not given or given[0] in ("-h", "--help") else EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
