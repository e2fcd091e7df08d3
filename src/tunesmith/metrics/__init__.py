"""From answers to scores with intervals, and from two sets of scores to what can be said about their difference."""
