"""Memory before anything is loaded: formulas over a model's config.json and safetensors headers.

Imports neither torch nor transformers, so that an answer takes a blink. Sizes are bytes of one process.
"""
