"""oikyo history: the logged values of a training, as a table or in a tool that compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import ACCEPTED
from .options import HOME, HomeFolder, home_at

if TYPE_CHECKING:
    from oikyo.following.place import Point


def history(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a job of this home, or a version's history.jsonl."
        ),
    ],
    home: HomeFolder = HOME,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="TOOL", help="csv, jsonl, tensorboard, mlflow, wandb or trackio."
        ),
    ] = "csv",
    target: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="TARGET",
            help="File (csv, jsonl), log folder, tracking URI, or project of the tool.",
        ),
    ] = "",
) -> int:
    """Write the history of a training: losses, learning rate, gradient norm, speed, over the steps.

    Without -o the table goes to the standard output.
    """
    from oikyo.errors import SpecError
    from oikyo.following.trackers import TRACKERS, write

    if to not in TRACKERS:
        raise SpecError(f"--to is {to}; write one of {', '.join(TRACKERS)}")
    run, points = _found(name, home)
    if not points:
        raise SpecError(f"{name} has no history yet: it begins with the first logged step")
    write(points, name=run, tool=to, target=target)
    return ACCEPTED


def _found(name: str, home: Path) -> tuple[str, list[Point]]:
    """Name of the run and its points, from a file or from a job of the home."""
    from oikyo.desktop.finding import the_job
    from oikyo.desktop.home import read_json_lines
    from oikyo.following.here import Here

    path = Path(name)
    if path.is_file():
        return "-".join(path.absolute().parts[-3:-1]), read_json_lines(path)
    place = home_at(home)
    job = the_job(name, place)
    return name, Here(place).curve(job)
