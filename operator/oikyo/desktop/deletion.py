"""What goes with a job: its run, and by retentionPolicy what it released."""

from __future__ import annotations

import shutil

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.modelversion import ModelVersion
from oikyo.controller.resolve import run_id

from .home import Home
from .jobs import forget
from .objects import Store


def delete_job(job: FineTuneJob, home: Home) -> list[str]:
    """Delete a job and what it owns; returns what went. Prepared data stays: other jobs share it."""
    gone = [f"job {job.metadata.name}"]
    forget(job, home)
    run = run_id(job)
    for folder in (home.workspace / layout.run(run), home.attempts(run), home.root / "logs" / run):
        shutil.rmtree(folder, ignore_errors=True)
    home.report(job.metadata.name).unlink(missing_ok=True)
    return gone + _owned(job, home)


def _owned(job: FineTuneJob, home: Home) -> list[str]:
    """Delete the versions and endpoints whose controller owner is the job."""
    store, gone = Store(home), []
    for version in store.all(ModelVersion):
        if any(owner.uid == job.metadata.uid for owner in version.metadata.owner_references):
            shutil.rmtree(home.workspace / version.spec.storage.path, ignore_errors=True)
            store.remove(ModelVersion, version.metadata.name)
            gone.append(f"version {version.metadata.name}")
    for endpoint in store.all(ModelEndpoint):
        if any(owner.uid == job.metadata.uid for owner in endpoint.metadata.owner_references):
            store.remove(ModelEndpoint, endpoint.metadata.name)
            gone.append(f"endpoint {endpoint.metadata.name}")
    return gone
