"""The desktop's API server: objects as JSON files, one file each, replaced whole."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import ObjectMeta
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.modelversion import ModelVersion
from oikyo.controller.conditions import timestamp
from oikyo.errors import OikyoError

from .home import Home, write_atomic

Kind = TypeVar("Kind", FineTuneJob, ModelVersion, ModelEndpoint)
FOLDERS: dict[type, str] = {
    FineTuneJob: "finetunejobs",
    ModelVersion: "modelversions",
    ModelEndpoint: "modelendpoints",
}


def new_meta(name: str) -> ObjectMeta:
    """Metadata as an API server would fill it in."""
    return ObjectMeta(
        name=name, uid=str(uuid.uuid4()), creation_timestamp=timestamp(datetime.now(UTC))
    )


class Store:
    """Reads and writes the objects of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def get(self, kind: type[Kind], name: str) -> Kind | None:
        path = self._home.objects(FOLDERS[kind]) / f"{name}.json"
        try:
            return kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OikyoError(
                f"{path} cannot be read as a {kind.__name__} ({error.error_count()} errors, first: "
                f"{error.errors()[0]['msg']}): it was written by another version of oikyo or changed "
                "by hand; delete the file to go on without it"
            ) from None

    def all(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Every object of a kind, by name."""
        names = sorted(path.stem for path in self._home.objects(FOLDERS[kind]).glob("*.json"))
        found = (self.get(kind, name) for name in names)
        return tuple(item for item in found if item is not None)

    def put(self, item: Kind) -> None:
        path = self._home.objects(FOLDERS[type(item)]) / f"{item.metadata.name}.json"
        write_atomic(path, json.dumps(item.wire(), indent=1, ensure_ascii=False) + "\n")

    def remove(self, kind: type[Kind], name: str) -> None:
        (self._home.objects(FOLDERS[kind]) / f"{name}.json").unlink(missing_ok=True)

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """All versions of one model, oldest first."""
        found = (item for item in self.all(ModelVersion) if item.spec.model == model)
        return tuple(sorted(found, key=lambda item: item.spec.version))
