"""oikyo logs: what all processes of a job printed, in one order, the first error marked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import ACCEPTED
from .options import HOME, HomeFolder, Name, Namespace, home_at

if TYPE_CHECKING:
    from rich.console import Console

    from oikyo.following.lines import LogLine
    from oikyo.following.place import Wanted

STYLES = {"first": "bold red", "later": "red", "": ""}
SOURCES = ("cyan", "magenta", "green", "yellow", "blue")


def logs(
    name: Name,
    home: HomeFolder = HOME,
    namespace: Namespace = None,
    stage: Annotated[
        str, typer.Option("--stage", metavar="STAGE", help="prepare, train or evaluate alone.")
    ] = "",
    attempt: Annotated[
        int, typer.Option("--attempt", metavar="N", min=0, help="This attempt alone; 0: all.")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the job ends.")
    ] = False,
) -> int:
    """Print the log lines of all workers of a job in the order of their times.

    The first error is marked, and said again at the end: when a gang fails, the other workers' errors
    only follow from it.
    """
    from oikyo.api.stages import RUN_STAGES
    from oikyo.errors import SpecError
    from oikyo.following.place import Wanted

    if stage and stage not in RUN_STAGES:
        raise SpecError(f"--stage is {stage}; write one of {', '.join(RUN_STAGES)}")
    try:
        asyncio.run(_logs(name, home, namespace, Wanted(stage, attempt), follow=follow))
    except KeyboardInterrupt:
        return 130
    return ACCEPTED


async def _logs(
    name: str, home: Path, namespace: str | None, wanted: Wanted, *, follow: bool
) -> None:
    from rich.console import Console

    from oikyo.following.lines import FirstError
    from oikyo.following.places import looking_at

    console, error, printed = Console(highlight=False), FirstError(), 0
    printer = _Printer(console)
    async with looking_at(home_at(home), namespace) as place:
        job = await place.job(name)
        async for piece in place.lines(job, wanted, follow=follow):
            for line in piece:
                printer.print(line, STYLES[error.look(line)])
            console.file.flush()  # who follows through a pipe waits for it
            printed += len(piece)
    if not printed:
        console.print(f"no log lines of {name} are there (stages of it run later, or were removed)")
    for words, said in (("first error", error.line), ("ended by a signal", error.killed)):
        if said is not None:
            _say_again(console, words, said)


class _Printer:
    """Lines with their source; styles are rendered once and for marked lines: a log has a million."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._sources: dict[str, str] = {}

    def print(self, line: LogLine, style: str) -> None:
        from rich.control import strip_control_codes

        source = self._sources.get(line.source)
        if source is None:
            colour = SOURCES[sum(line.source.encode()) % len(SOURCES)]
            source = self._sources[line.source] = self._styled(f"{line.source:<12} ", colour)
        text = self._styled(line.text, style) if style else strip_control_codes(line.text)
        self._console.file.write(f"{source}{text}\n")

    def _styled(self, text: str, style: str) -> str:
        from rich.text import Text

        with self._console.capture() as captured:
            self._console.print(Text(text, style=style), end="", soft_wrap=True)
        return captured.get()


def _say_again(console: Console, words: str, line: LogLine) -> None:
    from rich.text import Text

    when = f" at {line.time:%H:%M:%S} UTC" if line.time else ""
    console.print(
        Text(f"{words}: {line.source}{when}: {line.text.strip()}", "bold red"), soft_wrap=True
    )
