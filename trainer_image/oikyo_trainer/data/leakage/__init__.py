"""What training must not have read: long runs of words of the test side, and items of benchmarks."""
