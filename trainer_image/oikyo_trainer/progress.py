"""What a running stage tells the world: /progress (JSON) for the controller, /metrics for Prometheus.

One daemon thread, standard library HTTP; the stage only sets values. Rank 0 alone serves.
"""

from __future__ import annotations

import errno
import logging
import math
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from oikyo.api.meta import Metric
from oikyo.api.stages import Failure, Stage, StageProgress

from .listening import listening
from .metrics import StageMetrics

log = logging.getLogger("oikyo.stage")

CLIENT_SECONDS = 10.0
"""A client that says nothing for so long is hung up on."""


def now() -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(value: float) -> str:
    """A number as short decimal text, a count as it is: the wire carries no floats."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


class Reporter:
    """Holds the newest progress of one stage and serves it."""

    def __init__(self, stage: Stage, attempt: int, run: str) -> None:
        self._started = time.monotonic()
        self._values: dict[str, str] = {}
        self._part = (0, 1, 0)
        self._part_seconds = 0.0
        """What a whole part takes, by its newest estimate."""
        self.current = StageProgress(stage=stage, attempt=attempt, updated=now())
        self.metrics = StageMetrics(run=run, stage=stage)
        self._troubles: dict[str, Failure] = {}
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()  # a checkpoint is told by the thread that wrote it

    def begin_part(self, number: int, parts: int, steps: int) -> None:
        """Tell from here on of one of `parts` alike, of `steps` each; the first is 0."""
        self._part = (number, parts, steps)

    def update(
        self,
        *,
        percentage: float | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        remaining_seconds: float | None = None,
        **values: float,
    ) -> None:
        """Tell the newest state; `values` are metrics by name (loss, eval_loss, learning_rate…).

        A stage that counts no steps has its time left estimated from its percentage.
        """
        with self._lock:
            self._update(percentage, step, total_steps, remaining_seconds, values)

    def notice(self, reason: str, sentence: str) -> None:
        """Tell what happened or shows, in words; the last notice stands until the next."""
        with self._lock:
            self.current = self.current.model_copy(
                update={"notice_reason": reason, "notice": sentence, "updated": now()}
            )

    def tell(self, reason: str, trouble: Failure | None) -> None:
        """Say what a person should know while the stage goes on; None: this reason is over.

        Of several the oldest stands.
        """
        with self._lock:
            if trouble is None:
                self._troubles.pop(reason, None)
            else:
                self._troubles[reason] = trouble
            oldest = next(iter(self._troubles.values()), None)
            self.current = self.current.model_copy(update={"trouble": oldest, "updated": now()})

    def _update(
        self,
        percentage: float | None,
        step: int | None,
        total_steps: int | None,
        remaining_seconds: float | None,
        values: dict[str, float],
    ) -> None:
        number, parts, steps = self._part
        if parts > 1:
            if remaining_seconds is not None and percentage is not None:
                if percentage < 100:
                    self._part_seconds = remaining_seconds * 100 / (100 - percentage)
                remaining_seconds += (parts - number - 1) * self._part_seconds
            percentage = None if percentage is None else (100 * number + percentage) / parts
            step = None if step is None else number * steps + step
            total_steps = None if total_steps is None else parts * steps
            if "checkpoint_step" in values:
                values = {**values, "checkpoint_step": number * steps + values["checkpoint_step"]}
        self._values.update({name: text(value) for name, value in values.items()})
        percent = self._percent(percentage)
        if remaining_seconds is None:
            remaining_seconds = self._remaining(percent, counted=step is not None)
        self.current = StageProgress(
            stage=self.current.stage,
            attempt=self.current.attempt,
            progress_percentage=percent,
            estimated_remaining_seconds=None
            if remaining_seconds is None
            else round(remaining_seconds),
            step=self.current.step if step is None else step,
            total_steps=self.current.total_steps if total_steps is None else total_steps,
            metrics=tuple(Metric(name=name, value=value) for name, value in self._values.items()),
            notice_reason=self.current.notice_reason,
            notice=self.current.notice,
            trouble=self.current.trouble,
            updated=now(),
        )
        self.metrics.observe(self.current, values)

    def _remaining(self, percent: int, *, counted: bool) -> float | None:
        """Seconds left, where the stage does not say; a resumed one began at more than 0 %."""
        if counted or self.current.step is not None:
            return self.current.estimated_remaining_seconds
        elapsed = time.monotonic() - self._started
        return elapsed * (100 - percent) / percent if percent > 0 else None

    def _percent(self, percentage: float | None) -> int:
        if percentage is None or not math.isfinite(percentage):
            return self.current.progress_percentage
        return max(0, min(100, int(percentage)))

    def serve(self, port: int) -> int:
        """Answer on `port` (0: any free one) until `close`; returns the port.

        A port that is taken costs the stage its progress, not its life: any free one is used then.
        """
        try:
            self._server = _Server(port, self)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            self._server = _Server(0, self)
            log.warning("port %d: %s", port, error.strerror)
        thread = threading.Thread(
            target=self._server.serve_forever,
            args=(0.05,),
            daemon=True,
            name="progress",
        )
        thread.start()
        bound = int(self._server.server_address[1])
        log.info("progress and metrics on port %d", bound)
        return bound

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    """A thread for each request: a client that hangs holds up nobody else."""

    daemon_threads = True

    def __init__(self, port: int, reporter: Reporter) -> None:
        self.reporter = reporter
        bound = listening(port)
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news for the log of a training."""
        log.debug("a client of /progress went away: %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        reporter = self.server.reporter
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
