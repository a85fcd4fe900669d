"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oikyo.desktop.home import Home

Manifest = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The FineTuneJob manifest.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the job.")]
HomeFolder = Annotated[
    Path,
    typer.Option("--home", help="Folder for everything that oikyo keeps.", envvar="OIKYO_HOME"),
]
Claims = Annotated[
    list[str] | None,
    typer.Option(
        "--claim", metavar="NAME=FOLDER", help="Folder that stands for pvc://NAME; repeatable."
    ),
]
ConfigMaps = Annotated[
    list[str] | None,
    typer.Option(
        "--configmap",
        metavar="NAME=FOLDER",
        help="Folder that stands for configmap://NAME; repeatable.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--namespace",
        metavar="NAMESPACE",
        help="Look at the cluster of the kubeconfig, in this namespace, instead of this home.",
    ),
]
HOME = Path(".oikyo")


def home_at(folder: Path) -> Home:
    from oikyo.desktop.home import Home

    return Home(folder.absolute())
