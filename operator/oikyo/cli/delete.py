"""oikyo delete: what `kubectl delete` does: the job goes, what it released stays unless it says Delete."""

from __future__ import annotations

from .exits import ACCEPTED
from .options import HOME, HomeFolder, Name, home_at


def delete(name: Name, home: HomeFolder = HOME) -> int:
    """Delete a job with its checkpoints, logs and report.

    Its versions and endpoint stay, unless spec.storage.retentionPolicy is Delete.
    """
    from oikyo.desktop.deletion import delete_job
    from oikyo.desktop.finding import the_job

    place = home_at(home)
    job = the_job(name, place)
    with place.lock(name):
        for gone in delete_job(job, place):
            print(f"deleted {gone}")
    return ACCEPTED
