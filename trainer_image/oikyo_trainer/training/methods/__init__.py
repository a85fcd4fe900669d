"""How the weights are changed: one file per family of methods. The table stands in ../model.py."""
