"""The train stage. Importing it fixes what libraries read when they are themselves imported."""

import os

# Everything a training needs is in the workspace: no library may wait for a network or report to one.
for _name, _value in (
    ("HF_HUB_OFFLINE", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("DO_NOT_TRACK", "1"),
    ("TOKENIZERS_PARALLELISM", "true"),
):
    os.environ.setdefault(_name, _value)
