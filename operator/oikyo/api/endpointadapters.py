"""spec.adapters of an endpoint: more versions on the same base, each under a name of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Model, Name


class EndpointAdapter(Model):
    """A version that is served beside the endpoint's model, on the one copy of their base."""

    name: Annotated[
        Name,
        Field(
            description="What requests write as their model to be answered by this adapter. "
            "Example: refunds."
        ),
    ]
    model: Annotated[
        Name | None,
        Field(
            description="Name of the model whose version is meant, as in FineTuneJob.spec.model.name. "
            "Default: the adapter's name."
        ),
    ] = None
    version: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**31 - 1,
            description="Version to serve. Default: the newest whose gates passed. Example: 3.",
        ),
    ] = None

    @property
    def of_model(self) -> str:
        return self.model or self.name


class ServedAdapter(Model):
    """One adapter as the server was told of it."""

    name: Annotated[Name, Field(description="What requests write as their model.")]
    version: Annotated[int, Field(description="Version that is served under the name.")]
