"""What `up` decided, kept in the state folder so that every later command finds the cluster."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from kit.errors import KitError

Engine = Literal["existing", "kind", "built"]


@dataclass(frozen=True)
class Record:
    """One cluster, as written to cluster.json before the first thing is made."""

    engine: Engine
    node_count: int
    controllers: bool
    gpus: int
    kubeconfig: str
    gangs: bool = False
    """Whether an API server without nodes serves PodGroups and has a scheduler that places them."""
    slot: int | None = None
    """The machine's slot that a built cluster with nodes holds."""
    complete: bool = False
    """Whether `up` came to its end; what did not is taken down by the next one."""


def path(state: Path) -> Path:
    return state / "cluster.json"


def write(state: Path, record: Record) -> None:
    state.mkdir(parents=True, exist_ok=True)
    path(state).write_text(json.dumps(asdict(record), indent=1))


def read(state: Path) -> Record | None:
    """Return the record of a state folder, None where no cluster was started."""
    if not path(state).exists():
        return None
    try:
        return Record(**json.loads(path(state).read_text()))
    except (TypeError, ValueError) as error:
        raise KitError(f"{path(state)} is not a cluster's record ({error}); delete it") from error
