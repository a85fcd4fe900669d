"""pandas is neither imported by the stage that reads rows nor lost for whoever wants it later."""

from __future__ import annotations

import subprocess
import sys

AFTER = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from oikyo_trainer.data import frames
before = set(sys.meta_path)
frames.leave_out()
assert set(sys.meta_path) == before
texts = pa.array(["a", None, "bc"])
assert np.asarray(pc.utf8_length(texts.fill_null(""))).tolist() == [1, 0, 2]
assert pa.array(np.arange(3)).to_pylist() == [0, 1, 2]
assert pa.array([1.5, None]).to_numpy(zero_copy_only=False)[0] == 1.5
print("pandas" in sys.modules)
print(pa.table({"a": texts}).to_pandas().shape, "pandas" in sys.modules)
frames.leave_out()
print("pandas" in sys.modules)
"""


def test_arrays_are_made_without_pandas_and_frames_with_it() -> None:
    made = subprocess.run([sys.executable, "-c", AFTER], capture_output=True, text=True, check=True)
    assert made.stdout.split("\n") == ["False", "(3, 1) True", "True", ""]
