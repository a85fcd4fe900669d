"""Serving on the desktop: which version, and the server process in the foreground."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from oikyo.api.endpointadapters import EndpointAdapter
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointSpec
from oikyo.api.modelversion import ModelVersion
from oikyo.api.stages import ADDRESS_VARIABLE, ServeSpec
from oikyo.controller.conditions import find
from oikyo.controller.endpoint import decide_endpoint
from oikyo.controller.observed import EndpointDecision, EndpointObserved
from oikyo.errors import SpecError

from .home import Home
from .objects import Store, new_meta
from .processes import LOOPBACK, stage_environment


def choose(
    home: Home, name: str, version: int | None, *, beside: Sequence[str] = (), force: bool
) -> ServeSpec:
    """What to serve, by the same decision as on a cluster; raises SpecError with the reason why not.

    `beside`: adapters as the command line names them, MODEL or MODEL/NUMBER.
    """
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
    endpoint = _endpoint(store, name, version, [_adapter(text, name) for text in beside])
    others = dict.fromkeys(adapter.of_model for adapter in endpoint.spec.adapters)
    versions += tuple(v for other in others if other != name for v in store.versions(other))
    decision = decide_endpoint(endpoint, EndpointObserved(versions=versions), datetime.now(UTC))
    if decision.server is None:
        why = find(decision.status.conditions, "Ready")
        said = why.message if why is not None else f"{name} has nothing to serve"
        raise SpecError(said + _hint(endpoint, decision, versions))
    return decision.server.spec


def _hint(
    endpoint: ModelEndpoint, decision: EndpointDecision, versions: tuple[ModelVersion, ...]
) -> str:
    """What to run next, on a desktop."""
    told = decision.status.diagnosis
    if endpoint.spec.adapters and told is not None:
        step = "oikyo list" if told.next_step.startswith("kubectl") else told.next_step
        return f"\nnext: {step}"
    rejected = [v.spec.version for v in versions if v.spec.verdict == "Rejected"]
    return f"\nto serve it all the same: --version {rejected[-1]} --force" if rejected else ""


def _adapter(text: str, model: str) -> EndpointAdapter:
    """MODEL or MODEL/NUMBER of the command line."""
    name, _, number = text.partition("/")
    try:
        version = int(number) if number else None
        adapter = EndpointAdapter(name=name, version=version)
    except ValueError:
        raise SpecError(
            f"--adapter {text}: write the name of a model, alone or with a version, for example refunds/3"
        ) from None
    if name == model:
        raise SpecError(f"--adapter {text}: {model} is served already; name another model")
    return adapter


def _endpoint(
    store: Store, model: str, version: int | None, beside: list[EndpointAdapter]
) -> ModelEndpoint:
    """The recorded endpoint, or the one that the command line asks for."""
    recorded = next((e for e in store.all(ModelEndpoint) if e.spec.model == model), None)
    spec = recorded.spec if recorded is not None else ModelEndpointSpec(model=model)
    if version is not None:
        spec = ModelEndpointSpec(model=model, version_policy="Pinned", version=version)
    if beside:
        spec = spec.model_copy(update={"adapters": tuple(beside)})
    return ModelEndpoint(metadata=new_meta(model), spec=spec)


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
