"""What a running stage tells the world: /progress (JSON) for the controller, /metrics for Prometheus.

One daemon thread, standard library HTTP; the stage only sets values. Rank 0 alone serves.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from oikyo.api.meta import Metric
from oikyo.api.stages import Stage, StageProgress

from .metrics import StageMetrics


def now() -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(value: float) -> str:
    """A float as short decimal text: the wire carries no floats."""
    return f"{value:.6g}"


class Reporter:
    """Holds the newest progress of one stage and serves it."""

    def __init__(self, stage: Stage, attempt: int, run: str) -> None:
        self._started = time.monotonic()
        self._values: dict[str, str] = {}
        self.current = StageProgress(stage=stage, attempt=attempt, updated=now())
        self.metrics = StageMetrics(run=run, stage=stage)
        self._server: ThreadingHTTPServer | None = None

    def update(
        self,
        *,
        percentage: float | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        remaining_seconds: float | None = None,
        **values: float,
    ) -> None:
        """Tell the newest state; `values` are metrics by name (loss, eval_loss, learning_rate…)."""
        self._values.update({name: text(value) for name, value in values.items()})
        percent = self.current.progress_percentage if percentage is None else int(percentage)
        if remaining_seconds is None and 0 < percent <= 100:
            elapsed = time.monotonic() - self._started
            remaining_seconds = elapsed * (100 - percent) / percent
        self.current = StageProgress(
            stage=self.current.stage,
            attempt=self.current.attempt,
            progress_percentage=max(0, min(100, percent)),
            estimated_remaining_seconds=None if remaining_seconds is None else round(remaining_seconds),
            step=self.current.step if step is None else step,
            total_steps=self.current.total_steps if total_steps is None else total_steps,
            metrics=tuple(Metric(name=name, value=value) for name, value in self._values.items()),
            updated=now(),
        )
        self.metrics.observe(self.current, values)

    def serve(self, port: int) -> int:
        """Answer on `port` (0: any free one) until the process ends; returns the port."""
        reporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/progress":
                    self._answer("application/json", reporter.current.json_line().encode())
                elif self.path == "/metrics":
                    self._answer("text/plain; version=0.0.4", reporter.metrics.exposition())
                else:
                    self.send_error(404)

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Every poll in the log would bury the training."""

        self._server = ThreadingHTTPServer(("", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True, name="progress").start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
