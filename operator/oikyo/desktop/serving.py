"""Serving on the desktop: which version, and the server process in the foreground."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointSpec
from oikyo.api.stages import ADDRESS_VARIABLE, ServeSpec
from oikyo.controller.conditions import find
from oikyo.controller.endpoint import decide_endpoint
from oikyo.controller.observed import EndpointObserved
from oikyo.errors import SpecError

from .home import Home
from .objects import Store, new_meta
from .processes import LOOPBACK, stage_environment


def choose(home: Home, name: str, version: int | None, *, force: bool) -> ServeSpec:
    """What to serve, by the same decision as on a cluster; raises SpecError with the reason why not."""
    store = Store(home)
    job = store.get(FineTuneJob, name)
    versions = store.versions(name)
    if not versions and job is not None:
        name = job.model_name
        versions = store.versions(name)
    if not versions:
        raise SpecError(
            f"there is no version of model {name} in {home.root}\nnext: oikyo list, or name the folder with --home"
        )
    if version is not None and force:
        versions = tuple(
            v.model_copy(update={"spec": v.spec.model_copy(update={"verdict": "Accepted"})})
            if v.spec.version == version
            else v
            for v in versions
        )
    endpoint = _endpoint(store, name, version)
    decision = decide_endpoint(endpoint, EndpointObserved(versions=versions), datetime.now(UTC))
    if decision.server is None:
        why = find(decision.status.conditions, "Ready")
        rejected = [v.spec.version for v in versions if v.spec.verdict == "Rejected"]
        hint = f"\nto serve it all the same: --version {rejected[-1]} --force" if rejected else ""
        raise SpecError((why.message if why is not None else f"{name} has nothing to serve") + hint)
    return decision.server.spec


def _endpoint(store: Store, model: str, version: int | None) -> ModelEndpoint:
    """The recorded endpoint, or the one that the command line asks for."""
    recorded = (e for e in store.all(ModelEndpoint) if e.spec.model == model)
    if version is not None:
        spec = ModelEndpointSpec(model=model, version_policy="Pinned", version=version)
        return ModelEndpoint(metadata=new_meta(model), spec=spec)
    default = ModelEndpoint(metadata=new_meta(model), spec=ModelEndpointSpec(model=model))
    return next(recorded, default)


def run_server(spec: ServeSpec, home: Home, address: str = LOOPBACK) -> int:
    """Run the server until it ends or a signal asks it to; returns its exit code."""
    with tempfile.TemporaryDirectory(prefix="oikyo-serve-") as folder:
        path = Path(folder) / "spec.json"
        path.write_text(spec.json_line(), encoding="utf-8")
        command = [sys.executable, "-m", "oikyo_trainer", "serve"]
        command += ["--spec", str(path), "--workspace", str(home.workspace)]
        environment = stage_environment() | {ADDRESS_VARIABLE: address}
        # Ctrl-C in a terminal reaches both: here it only means to pass it on.
        server = subprocess.Popen(command, env=environment, start_new_session=True)
        asked: list[int] = []

        def stop(*_: object) -> None:
            asked.append(1)
            server.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

        earlier = {
            number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            code = server.wait()
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
        return 0 if asked else code if code >= 0 else 128 - code
