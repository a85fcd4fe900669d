"""What is told of the rows, also written to a file as it is met: findings.jsonl, cleaned.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Journal:
    """A list that is written as JSON Lines from the moment on that a file is named."""

    _file: TextIO | None = None

    @contextmanager
    def written(self, path: Path) -> Iterator[None]:
        """Write all of it to `path` from here on."""
        with path.open("w", encoding="utf-8", errors="backslashreplace") as self._file:
            yield
        self._file = None

    def flush(self) -> None:
        """Make the file hold all that was told so far."""
        if self._file is not None:
            self._file.flush()

    def _write(self, told: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(told, ensure_ascii=False) + "\n")
