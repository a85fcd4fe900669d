"""What a job does with its rows once they are examined, as far as `oikyo data check` follows it.

data.augment is planned, nothing is made and no endpoint is asked; the rows of training.general are read and
checked as the prepare stage does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api.augment import Augment
from oikyo.api.stages import PrepareSpec

from ..augment import compose
from ..augment.plan import METHODS, Plan, plan
from ..examine import Examined
from ..general import read_general
from ..split import TRAIN

ENDPOINT = METHODS.index("endpoint")


def check(
    spec: PrepareSpec,
    data: Examined,
    staging: Path,
    model: Mapping[str, Path] | None,
    told: dict[str, Any],
) -> None:
    """Plan data.augment and read training.general; `told` gets what came of them. Raises Refused."""
    if spec.augment is not None:
        compose.check(data.spool.shape)
        wanted = plan(spec.augment, data.rows, np.flatnonzero(data.sides == TRAIN))
        told["augment"] = _planned(spec.augment, wanted)
    general = read_general(spec, data, staging / "general", model)
    if general is not None:
        told["general"] = general.told


def _planned(how: Augment, wanted: Plan) -> dict[str, Any]:
    """Rows by method, and what the endpoint would be asked."""
    asked = {
        name: int((wanted.methods == number).sum())
        for number, name in enumerate(METHODS)
        if (wanted.methods == number).any()
    }
    told: dict[str, Any] = {"asked": asked, "of": len(np.unique(wanted.rows))}
    if how.endpoint is not None:
        requests = int((wanted.methods == ENDPOINT).sum()) * how.endpoint.requests_a_row
        told["endpoint"] = {
            "url": how.endpoint.url,
            "model": how.endpoint.model,
            "requests": min(requests, how.endpoint.max_requests),
            "over_budget": max(0, requests - how.endpoint.max_requests),
        }
    return told


def lines(spec: PrepareSpec, told: Mapping[str, Any]) -> Iterator[str]:
    """The same for a terminal."""
    if made := told.get("augment"):
        by = ", ".join(f"{count} by {name}" for name, count in made["asked"].items())
        yield f"data.augment: {by or 'no row'}, of {made['of']} training rows" + (
            "; those that repeat or leak are left out" if by else ": every class is large enough"
        )
        if asked := made.get("endpoint"):
            over = asked["over_budget"]
            more = f"; {over} more are over its budget, and their rows are left out" if over else ""
            yield f"  {asked['url']} would get {asked['requests']} requests for {asked['model']}{more}"
            yield "  it was not asked: address, model and token are not checked"
    if general := told.get("general"):
        parts = ", ".join(f"{count} {name}" for name, count in general["parts"].items())
        own = general["the_tasks_own"]
        yield f"training.general: {parts}" + (f"; {own} left out: the task's own" if own else "")
