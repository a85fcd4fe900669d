"""Synthetic rows: planned, made and examined; plan.py says of which rows, augment.py is the recipe."""
