"""The curve of a training, handed to the tool in which a team compares its runs.

After the fact or again and again: no training pod needs credentials or a way out for it, and the image
needs none of these libraries. Each tool's own client does the writing; each is an extra.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from oikyo.errors import OikyoError

from .place import Point

NOT_VALUES = ("step", "time")
MLFLOW_BATCH = 1000
"""Most metrics that a server takes in one request."""


def values(point: Point) -> dict[str, float]:
    """What was logged at a step, without the step."""
    return {name: value for name, value in point.items() if name not in NOT_VALUES}


def to_csv(points: Sequence[Point], _name: str, target: str) -> None:
    names = list(dict.fromkeys(name for point in points for name in point))
    with _opened(target) as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(points)


def to_json_lines(points: Sequence[Point], _name: str, target: str) -> None:
    with _opened(target) as file:
        file.writelines(f"{json.dumps(point)}\n" for point in points)


@contextmanager
def _opened(target: str) -> Iterator[TextIO]:
    if not target:
        yield sys.stdout
        return
    with Path(target).open("w", encoding="utf-8", newline="") as file:
        yield file


def to_tensorboard(points: Sequence[Point], name: str, target: str) -> None:
    """`target`: the log folder that TensorBoard watches; default runs, its own default."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(Path(target or "runs") / name)) as writer:
        for point in points:
            for key, value in values(point).items():
                writer.add_scalar(f"train/{key}", value, point["step"], walltime=point.get("time"))


def to_mlflow(points: Sequence[Point], name: str, target: str) -> None:
    """`target`: the tracking URI; default: what MLFLOW_TRACKING_URI says."""
    import mlflow
    from mlflow.entities import Metric

    if target:
        mlflow.set_tracking_uri(target)
    mlflow.set_experiment("oikyo")
    # In batches, each value with its own time: a request for each step of a long run takes minutes.
    found = (
        Metric(key, value, round(1000 * point.get("time", 0)), point["step"])
        for point in points
        for key, value in values(point).items()
    )
    with mlflow.start_run(run_name=name) as run:
        while batch := list(islice(found, MLFLOW_BATCH)):
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics=batch)


def to_wandb(points: Sequence[Point], name: str, target: str) -> None:
    """`target`: the project; default oikyo. WANDB_API_KEY, WANDB_MODE and the like are wandb's own."""
    import wandb

    with wandb.init(project=target or "oikyo", name=name) as run:
        for point in points:
            run.log(values(point), step=point["step"])


def to_trackio(points: Sequence[Point], name: str, target: str) -> None:
    """`target`: the project; default oikyo."""
    import trackio

    trackio.init(project=target or "oikyo", name=name)
    for point in points:
        trackio.log(values(point), step=point["step"])
    trackio.finish()


Write = Callable[[Sequence[Point], str, str], Any]
TRACKERS: dict[str, tuple[str, Write]] = {
    "csv": ("", to_csv),
    "jsonl": ("", to_json_lines),
    "tensorboard": ("tensorboardX", to_tensorboard),
    "mlflow": ("mlflow", to_mlflow),
    "wandb": ("wandb", to_wandb),
    "trackio": ("trackio", to_trackio),
}
"""Name of a form or tool -> the library that it needs, and the function that writes."""


def write(points: Sequence[Point], *, name: str, tool: str, target: str) -> None:
    """Hand the curve of the run `name` to a tool. Raises OikyoError when that cannot be done."""
    library, function = TRACKERS[tool]
    if library and find_spec(library) is None:
        raise OikyoError(
            f"the library {library} is not installed in this Python\n"
            f"next: pip install 'oikyo[cli,{tool}]'"
        )
    try:
        function(points, name, target)
    except BrokenPipeError:
        raise  # whoever read the table has seen enough
    except Exception as error:  # each client has errors of its own for a server that is away
        raise OikyoError(
            f"--to {tool} wrote nothing, or not all{f' to {target}' if target else ''}: {error}\n"
            "next: look at -o, or write a file with --to csv; the history stays as it is"
        ) from error
