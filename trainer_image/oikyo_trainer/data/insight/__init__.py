"""What the statistics of the rows tell: probable label errors, coverage, balance, skew.

Pure: each function goes from a Table (table.py) to plain values. Nothing here drops a row or decides;
docs/explanation/data-statistics.md says what the figures can show and what they cannot.
"""
