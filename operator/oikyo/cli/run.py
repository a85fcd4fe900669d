"""oikyo run: take a job from its manifest to its verdict, here."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated

import typer

from .options import HOME, Claims, ConfigMaps, HomeFolder, Manifest, home_at

if TYPE_CHECKING:
    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.controller.observed import Mounts
    from oikyo.desktop.hands import Hands
    from oikyo.desktop.home import Home


def run(
    manifest: Manifest,
    claim: Claims = None,
    configmap: ConfigMaps = None,
    home: HomeFolder = HOME,
    again: Annotated[
        bool,
        typer.Option("--again", help="Forget the job of this name first; its versions stay."),
    ] = False,
) -> int:
    """Run a job to its verdict: check the data, train, evaluate, judge, record.

    Ctrl-C saves a checkpoint and suspends; the same command goes on from there.

    Exit codes: 0 accepted, 1 failed, 2 a gate failed, 64 the input was refused, 130 suspended.
    """
    from oikyo import admission
    from oikyo.desktop import mounts

    place = home_at(home)
    claims = mounts.parse_folders(claim or (), "--claim")
    configmaps = mounts.parse_folders(configmap or (), "--configmap")
    where = mounts.mounts_of(place, manifest.parent, claims, configmaps)
    return take(admission.load(manifest), place, where, again=again)


def take(job: FineTuneJob, home: Home, where: Mounts, *, again: bool) -> int:
    """Take `job` to its verdict, or find that it has one; the exit code."""
    from oikyo.controller.decide import finished
    from oikyo.desktop import jobs
    from oikyo.desktop.hands import Hands
    from oikyo.desktop.processes import Processes, stage_environment

    from .ending import exit_code, show_ending

    with home.lock(job.metadata.name):
        job = jobs.admit(job, home, again=again)
        if finished(job.status):
            show_ending(job, home, again=True)
            return exit_code(job)
        jobs.check_sources(job, where, home)
        _check_libraries()
        jobs.save(job, home)
        environment = stage_environment() | jobs.secrets(job, home)
        hands = Hands(home, where, Processes(home, environment=environment))
        job = _drive(hands, job)
    show_ending(job, home)
    return exit_code(job)


def _drive(hands: Hands, job: FineTuneJob) -> FineTuneJob:
    from oikyo.desktop.loop import Stop, drive

    from .progress import watching

    stop = Stop()
    try:
        with stop.on_signals(), watching(job, stop) as watch:
            return drive(hands, job, stop, watch)
    finally:
        hands.processes.close()


def _check_libraries() -> None:
    from oikyo.errors import OikyoError

    for name in ("oikyo_trainer", "torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise OikyoError(
                f"the trainer's library {name} is not installed in this Python\n"
                "next: pip install 'oikyo[cli,trainer]'"
            )
