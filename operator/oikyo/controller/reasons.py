"""Every CamelCase reason that oikyo writes into conditions and events, in one place."""

from __future__ import annotations

from typing import Final

# Where a job stands.
WAITING: Final = "Waiting"
PROGRESSING: Final = "Progressing"
RUNNING: Final = "Running"
RETRYING: Final = "Retrying"
DONE: Final = "Done"
FINISHED: Final = "Finished"
SUSPENDED: Final = "Suspended"
ACTIVE: Final = "Active"
SKIPPED: Final = "Skipped"

# What was found in the data.
DATA_CHECKED: Final = "DataChecked"
DATA_CHECK_FAILED: Final = "DataCheckFailed"

# What a running training says of itself.
ROLLED_BACK: Final = "RolledBack"
OVER_FITTING: Final = "OverFitting"
DIVERGING: Final = "Diverging"
PLATEAU: Final = "Plateau"
CONVERGED: Final = "Converged"
STILL_IMPROVING: Final = "StillImproving"
NOTICES: Final = frozenset(
    {ROLLED_BACK, OVER_FITTING, DIVERGING, PLATEAU, CONVERGED, STILL_IMPROVING}
)
ALARMING: Final = frozenset({ROLLED_BACK, OVER_FITTING, DIVERGING, PLATEAU})
"""Notices that are an event too."""

# How a job ends.
ACCEPTED: Final = "Accepted"
GATE_FAILED: Final = "GateFailed"
INPUT_REFUSED: Final = "InputRefused"
BACKOFF_LIMIT_EXCEEDED: Final = "BackoffLimitExceeded"
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
MEMORY_EXHAUSTED: Final = "MemoryExhausted"
START_DEADLINE_EXCEEDED: Final = "StartDeadlineExceeded"

# What changes while it runs.
QUEUED: Final = "Queued"
FEWER_NODES: Final = "FewerNodes"
ALL_NODES: Final = "AllNodes"

# What a training goes on with.
WORKSPACE_FULL: Final = "WorkspaceFull"
SLOW_WORKER: Final = "SlowWorker"
TROUBLES: Final = frozenset({WORKSPACE_FULL, SLOW_WORKER})

# Why a job waits for a person.
REFERENCE_MISSING: Final = "ReferenceMissing"
POD_BLOCKED: Final = "PodBlocked"
INVALID_SPEC: Final = "InvalidSpec"
REQUEST_REFUSED: Final = "RequestRefused"

# Endpoints.
SERVING: Final = "Serving"
ROLLING_OUT: Final = "RollingOut"
NO_ACCEPTED_VERSION: Final = "NoAcceptedVersion"
VERSION_MISSING: Final = "VersionMissing"
VERSION_REJECTED: Final = "VersionRejected"
NOT_AN_ADAPTER: Final = "NotAnAdapter"
ADAPTER_DIFFERS: Final = "AdapterDiffers"
RUNTIME_UNFIT: Final = "RuntimeUnfit"
POD_FAILING: Final = "PodFailing"
