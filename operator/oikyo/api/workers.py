"""spec.training.resources: what one worker pod asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Model, Quantity


class WorkerResources(Model):
    """What one worker pod asks for."""

    cpu: Annotated[
        Quantity | None,
        Field(description='CPU request, as a quantity. Default: "1". Example: 8 or "500m".'),
    ] = None
    memory: Annotated[
        Quantity | None,
        Field(
            description='Memory request and limit, as a quantity. Default: no limit. Example: "32Gi".'
        ),
    ] = None
    gpus: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="GPUs (nvidia.com/gpu) of one worker pod; one process runs for each. Default: 0.",
        ),
    ] = 0
