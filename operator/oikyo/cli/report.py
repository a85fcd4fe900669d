"""oikyo report: the job as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .exits import ACCEPTED
from .options import HOME, HomeFolder, Name, home_at


def report(
    name: Name,
    home: HomeFolder = HOME,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write it."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> int:
    """Write the report of a job: verdict, metrics, curves, data, settings, lineage.

    One file that needs no network. Without -o it is written to .oikyo/reports/NAME.html.
    """
    from oikyo.desktop.finding import the_job
    from oikyo.desktop.report import write_report

    place = home_at(home)
    path = write_report(the_job(name, place), place, output)
    print(path)
    if show:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
    return ACCEPTED
