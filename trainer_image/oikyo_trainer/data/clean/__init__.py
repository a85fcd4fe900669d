"""spec.data.clean: steps between the readers and the shapes; cleaner.py is the one that others call."""
