"""Data files into other formats and shapes, row by row; nothing is lost without being said."""
