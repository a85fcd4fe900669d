"""oikyo list: the jobs, versions and endpoints of this home."""

from __future__ import annotations

from collections.abc import Sequence

from .exits import ACCEPTED
from .options import HOME, HomeFolder, home_at


def list_objects(home: HomeFolder = HOME) -> int:
    """List jobs, the versions they made, and endpoints."""
    from rich.console import Console

    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.api.modelendpoint import ModelEndpoint
    from oikyo.api.modelversion import ModelVersion
    from oikyo.desktop.objects import Store

    store = Store(home_at(home))
    console = Console(highlight=False)
    jobs, versions = store.all(FineTuneJob), store.all(ModelVersion)
    if not jobs and not versions:
        console.print(f"nothing in {home} yet: oikyo run JOB.yaml", soft_wrap=True)
        return ACCEPTED
    job_rows = [
        (
            job.metadata.name,
            job.status.phase or "Pending",
            job.status.score or "",
            job.status.model_version or "",
        )
        for job in jobs
    ]
    ordered = sorted(versions, key=lambda v: (v.spec.model, v.spec.version))
    version_rows = [
        (v.spec.model, str(v.spec.version), v.spec.verdict, v.spec.lineage.job, v.spec.created)
        for v in ordered
    ]
    endpoint_rows = [
        (item.metadata.name, item.spec.model, item.spec.version_policy)
        for item in store.all(ModelEndpoint)
    ]
    _table(console, ("JOB", "PHASE", "SCORE", "VERSION"), job_rows)
    _table(console, ("MODEL", "VERSION", "VERDICT", "JOB", "CREATED"), version_rows)
    _table(console, ("ENDPOINT", "MODEL", "POLICY"), endpoint_rows)
    return ACCEPTED


def _table(console: object, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    if not rows:
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in header:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
