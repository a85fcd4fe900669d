"""oikyo watch: look at a running job until it ends, here or on a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import HOME, HomeFolder, Name, Namespace, home_at

if TYPE_CHECKING:
    from rich.console import Console, Group

    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.following.place import Place

LOOK_SECONDS = 1.0
LINE_SECONDS = 10.0
"""Least seconds between two plain lines of one phase."""


def watch(
    name: Name,
    home: HomeFolder = HOME,
    namespace: Namespace = None,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
) -> int:
    """Watch a job: stages, progress, loss curve, what it waits for. Ctrl-C ends the watching alone.

    The exit code is that of `oikyo run`: 0 accepted, 1 failed, 2 a gate failed, 64 refused, 130 not ended.
    """
    from .ending import exit_code

    try:
        return exit_code(asyncio.run(_watch(name, home, namespace, once=once)))
    except KeyboardInterrupt:
        return 130


async def _watch(name: str, home: Path, namespace: str | None, *, once: bool) -> FineTuneJob:
    from rich.console import Console

    from oikyo.following.places import looking_at

    console = Console(highlight=False)
    async with looking_at(home_at(home), namespace) as place:
        if once:
            return await _shown(console, place, name)
        if console.is_terminal:
            return await _live(console, place, name)
        return await _plain(console, place, name)


async def _shown(console: Console, place: Place, name: str) -> FineTuneJob:
    job = await place.job(name)
    console.print(_picture(console, place, job))
    return job


def _picture(console: Console, place: Place, job: FineTuneJob) -> Group:
    from . import portrait

    curve = place.curve(job, *portrait.DRAWN)
    return portrait.portrait(job, curve, portrait.now(), console.width)


async def _live(console: Console, place: Place, name: str) -> FineTuneJob:
    from rich.live import Live

    from oikyo.controller.decide import finished

    with Live(console=console, auto_refresh=False) as live:
        while True:
            job = await place.job(name)
            live.update(_picture(console, place, job), refresh=True)
            if finished(job.status):
                return job
            await asyncio.sleep(LOOK_SECONDS)


async def _plain(console: Console, place: Place, name: str) -> FineTuneJob:
    """A line for each change of phase, and for progress now and then."""
    from oikyo.controller.decide import finished

    from .portrait import one_line

    phase, told, since = "", "", float("-inf")
    while True:
        job = await place.job(name)
        line, at = one_line(job), asyncio.get_running_loop().time()
        if job.status.phase != phase or (line != told and at - since >= LINE_SECONDS):
            console.print(line, markup=False, soft_wrap=True)
            phase, told, since = job.status.phase or "", line, at
        if finished(job.status):
            return await _shown(console, place, name)
        await asyncio.sleep(LOOK_SECONDS)
