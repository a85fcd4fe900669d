"""oikyo get: one job as YAML, as `kubectl get -o yaml` would show it."""

from __future__ import annotations

from .exits import ACCEPTED
from .options import HOME, HomeFolder, Name, home_at


def get(name: Name, home: HomeFolder = HOME) -> int:
    """Print a job, with its status, as YAML."""
    import yaml

    from oikyo.desktop.finding import the_job

    print(yaml.safe_dump(the_job(name, home_at(home)).wire(), sort_keys=False, width=100), end="")
    return ACCEPTED
