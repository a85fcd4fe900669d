"""The Prometheus series of a running stage. Names: base units, `_total` for counters, no unbounded labels."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from oikyo.api.stages import StageProgress

SERIES = {
    "loss": ("oikyo_train_loss", "Newest training loss"),
    "eval_loss": ("oikyo_train_eval_loss", "Newest validation loss"),
    "eval_general_loss": (
        "oikyo_train_general_loss",
        "Newest loss of the general rows, those of what the base knew",
    ),
    "learning_rate": ("oikyo_train_learning_rate", "Learning rate of the newest step"),
    "grad_norm": ("oikyo_train_grad_norm", "Gradient norm of the newest step"),
    "tokens_per_second": (
        "oikyo_train_tokens_per_second",
        "Real tokens trained in a second, all ranks",
    ),
    "padding_share": (
        "oikyo_train_padding_ratio",
        "Share of the computed tokens that is padding, 0 to 1",
    ),
    "flops_utilization": (
        "oikyo_train_flops_utilization_ratio",
        "Useful floating-point operations as a share of the peak of all processes",
    ),
    "peak_memory_bytes": (
        "oikyo_train_memory_peak_bytes",
        "Most memory that rank 0 has held: of its GPU where it has one, else resident",
    ),
    "predicted_memory_bytes": (
        "oikyo_train_memory_predicted_bytes",
        "Memory that was predicted for rank 0, before it began",
    ),
    "checkpoint_step": (
        "oikyo_checkpoint_step",
        "Step of the newest committed checkpoint",
    ),
    "checkpoint_seconds": (
        "oikyo_checkpoint_duration_seconds",
        "Seconds that the newest checkpoint took",
    ),
    "rows": ("oikyo_prepare_rows", "Rows read so far, bad ones included"),
    "bad_rows": ("oikyo_prepare_bad_rows", "Rows that could not be used, so far"),
}
"""Value name given to `Reporter.update` -> series and help."""
STEP_PARTS = ("data", "forward", "backward", "optimizer", "save", "other")
"""Of a step, told as step_<part>_seconds; `save` is waiting for checkpoints, `other` logging and validation."""


class StageMetrics:
    """One registry for one stage process."""

    def __init__(self, run: str, stage: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"run": run, "stage": stage}
        self._progress = self._gauge(
            "oikyo_stage_progress_ratio", "Share of the stage that is done, 0 to 1"
        )
        self._step = self._gauge("oikyo_train_step", "Optimizer steps done")
        self._gauges = {key: self._gauge(*series) for key, series in SERIES.items()}
        self._last_step = self._gauge(
            "oikyo_train_last_step_timestamp_seconds", "When the newest step was reported"
        )
        self._last_checkpoint = self._gauge(
            "oikyo_checkpoint_last_success_timestamp_seconds",
            "When the newest checkpoint was committed",
        )
        self._parts = Gauge(
            "oikyo_train_step_duration_seconds",
            "Mean seconds of a step, by what they were spent on",
            ("run", "stage", "part"),
            registry=self._registry,
        )
        self._newest_step = -1

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, ("run", "stage"), registry=self._registry)

    def observe(self, progress: StageProgress, values: Mapping[str, float]) -> None:
        self._progress.labels(**self._labels).set(progress.progress_percentage / 100)
        if progress.step is not None:
            self._step.labels(**self._labels).set(progress.step)
            if progress.step != self._newest_step:  # after a rollback it is a smaller one
                self._newest_step = progress.step
                self._last_step.labels(**self._labels).set_to_current_time()
        if "checkpoint_step" in values:
            self._last_checkpoint.labels(**self._labels).set_to_current_time()
        for name, value in values.items():
            if name in self._gauges:
                self._gauges[name].labels(**self._labels).set(value)
        for part in STEP_PARTS:
            if (seconds := values.get(f"step_{part}_seconds")) is not None:
                self._parts.labels(**self._labels, part=part).set(seconds)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
