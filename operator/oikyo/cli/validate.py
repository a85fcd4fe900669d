"""oikyo validate: everything that can be known to be wrong before anything runs, all at once."""

from __future__ import annotations

from .exits import ACCEPTED
from .options import HOME, Claims, ConfigMaps, HomeFolder, Manifest, home_at


def validate(
    manifest: Manifest,
    claim: Claims = None,
    configmap: ConfigMaps = None,
    home: HomeFolder = HOME,
) -> int:
    """Check a manifest: fields, rules, and that its local sources exist.

    Tells every violation at once. Exit codes: 0 valid, 64 not.
    """
    from oikyo import admission
    from oikyo.desktop import jobs, mounts

    place = home_at(home)
    claims = mounts.parse_folders(claim or (), "--claim")
    configmaps = mounts.parse_folders(configmap or (), "--configmap")
    where = mounts.mounts_of(place, manifest.parent, claims, configmaps)
    job = admission.load(manifest)
    jobs.check_sources(job, where, place)
    print(f"{manifest}: FineTuneJob {job.metadata.name} is valid")
    return ACCEPTED
