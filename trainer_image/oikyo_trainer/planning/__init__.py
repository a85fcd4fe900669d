"""Memory before anything is loaded: formulas over a model's config.json and safetensors headers.

Imports neither torch nor transformers where the headers are there, so that an answer takes a blink (`blank` does, for
config.json alone). Sizes are bytes of one process.
"""
