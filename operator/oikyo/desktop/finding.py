"""Finding an object by its name, or saying which names there are."""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.errors import SpecError

from .home import Home
from .objects import Store


def the_job(name: str, home: Home) -> FineTuneJob:
    """The job of this name; raises SpecError with the names that exist."""
    store = Store(home)
    job = store.get(FineTuneJob, name)
    if job is None:
        names = [item.metadata.name for item in store.all(FineTuneJob)]
        raise SpecError(f"there is no job {name} in {home.root}\n{_known('jobs', names)}")
    return job


def unknown_model(model: str, home: Home) -> SpecError:
    """The error for a model without versions."""
    from oikyo.api.modelversion import ModelVersion

    models = sorted({version.spec.model for version in Store(home).all(ModelVersion)})
    return SpecError(
        f"there is no version of model {model} in {home.root}\n{_known('models', models)}"
    )


def _known(plural: str, names: list[str]) -> str:
    if not names:
        return f"there are no {plural} here: run one with `oikyo run JOB.yaml`, or name the folder with --home"
    return f"{plural} here: {', '.join(names)}"
