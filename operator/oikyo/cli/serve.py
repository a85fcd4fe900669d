"""oikyo serve: answer over HTTP with a released version, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import HOME, HomeFolder, home_at

if TYPE_CHECKING:
    from oikyo.api.stages import ServeSpec


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of the model, or of its job.")
    ],
    version: Annotated[
        int | None,
        typer.Option("--version", help="Version to serve; default: what the endpoint says."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="MODEL[/NUMBER]",
            help="A version on the same base to serve beside it, by its name; may be repeated.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; 0.0.0.0 or :: for every machine near."),
    ] = "127.0.0.1",
    force: Annotated[
        bool, typer.Option("--force", help="Serve --version though its gates failed.")
    ] = False,
    home: HomeFolder = HOME,
) -> int:
    """Serve a released model until Ctrl-C.

    Without --version: the newest accepted version, or what the model's endpoint pins. A rejected
    version is refused, unless --version names it and --force says that you mean it. With --adapter,
    several versions trained with merge: false answer from one copy of their base; a request says by
    `model` which of them it means.
    """
    from oikyo.desktop.serving import choose, run_server

    place = home_at(home)
    spec = choose(place, model, version, beside=adapter or (), force=force).model_copy(
        update={"port": port}
    )
    _say(spec, host)
    return run_server(spec, place, host)


def _say(spec: ServeSpec, host: str) -> None:
    import sys

    from oikyo.api.tasks import FACTS

    shown = f"[{host}]" if ":" in host else host
    path = FACTS[spec.task].route
    beside = "".join(f", {one.name} version {one.version}" for one in spec.adapters)
    print(
        f"serving {spec.model_name} version {spec.version}{beside} on http://{shown}:{spec.port}{path} "
        "(Ctrl-C ends)",
        file=sys.stderr,
        flush=True,
    )
