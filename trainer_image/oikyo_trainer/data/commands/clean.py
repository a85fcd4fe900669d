"""Clean data files: write the rows that stay, and what was changed or left out and why.

  oikyo data clean tickets.csv clean.csv --steps unicode whitespace invisible html
  oikyo data clean chats/ clean.jsonl --steps languages=en quality personalData=Mask --log why.jsonl

IN is a file or a folder of files; also s3:// and hf://. OUT's ending says the format; columns that are not cleaned stay as they
are, labels too. Steps mean what they mean in spec.data.clean of a job. Rows that stand twice stay: a job
drops them anyway, `oikyo data check` tells them. Exit code 0: written; 64: refused.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oikyo.api.stages import EXIT_DONE, PrepareSpec, Source

from ...errors import Refused
from .. import remote
from ..clean.cleaner import Cleaner, open_cleaner
from ..clean.log import CleanLog
from ..clean.settings import add_steps, settings
from ..columns import choose
from ..convert.writers import Values, format_of, write
from ..guess import guess
from ..intake import LOOK_AHEAD
from ..listing import cleaned
from ..readers import read
from ..sources import DataFile, data_files
from . import reading
from .convert import good


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="IN", help="file or folder of files; also s3:// and hf://")
    parser.add_argument("output", type=Path, metavar="OUT", help="its ending says the format")
    add_steps(parser, "--steps", required=True)
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="each change as JSON Lines (OUT.cleaned.jsonl)"
    )
    reading.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    format_of(arguments.output)
    with tempfile.TemporaryDirectory(prefix="oikyo-") as scratch:
        (sources, _), _ = remote.local(
            ((reading.source_of(arguments.data, arguments.format),), ()), Path(scratch)
        )
        return _run(arguments, sources)


def _run(arguments: argparse.Namespace, sources: tuple[Source, ...]) -> int:
    output: Path = arguments.output
    files = tuple(file for source in sources for file in data_files(source))
    log_file: Path = arguments.log or output.with_name(output.name + ".cleaned.jsonl")
    for path in (output, log_file):
        if path.resolve() in {file.path for file in files}:
            raise Refused("SameFile", f"{path} is IN itself", next_step="Name another file")
    work = _Work(files, _spec(arguments, sources), log_file)
    count = write(output, work.rows)
    print("\n".join([*cleaned(work.log), f"{output}: {count} rows; {log_file} has every change"]))
    sys.stdout.flush()
    return EXIT_DONE


def _spec(arguments: argparse.Namespace, sources: tuple[Source, ...]) -> PrepareSpec:
    asked = settings(arguments.steps, "--steps")
    if asked.personal_data is not None and asked.personal_data.action == "Fail":
        raise Refused(
            "InvalidUsage",
            "--steps personalData=Fail cleans nothing",
            next_step="Write Mask or Drop, or oikyo data check --checks personal-data=Fail",
        )
    if not asked.works:
        raise Refused(
            "InvalidUsage", "--steps name no step that does anything", next_step="Add one"
        )
    guessed = guess(sources[0], reading.said(arguments))
    return PrepareSpec(
        run="clean",
        task=guessed.task,
        objective=guessed.objective,
        fields=guessed.fields,
        model=Source(uri=""),
        sources=sources,
        clean=asked,
    )


@dataclass
class _Work:
    """Gives the rows as often as a writer asks; the log is that of the last time."""

    files: tuple[DataFile, ...]
    spec: PrepareSpec
    log_file: Path
    log: CleanLog = field(default_factory=CleanLog)
    _cleaner: Cleaner | None = None

    def rows(self) -> Iterator[Values]:
        self._cleaner = self._cleaner or open_cleaner(self.spec, self.files, self.log)
        assert self._cleaner is not None  # a step works
        self._cleaner.log = self.log = CleanLog()
        with self.log.written(self.log_file):
            for file in self.files:
                yield from self._of(file, self._cleaner)

    def _of(self, file: DataFile, cleaner: Cleaner) -> Iterator[Values]:
        items = (good(file, item) for item in read(file))
        first = list(itertools.islice(items, LOOK_AHEAD))
        present = list(dict.fromkeys(name for row in first for name in row.values))
        spec = self.spec
        columns = choose(spec.task, spec.fields, present, file.name, spec.objective)
        for row in itertools.chain(first, items):
            kept = cleaner.row(row, columns, file.name)
            if kept is not None:
                yield dict(kept.values)
