"""Looking at a job from outside, wherever it runs: its status, its curve, its log lines. Writes nothing."""
