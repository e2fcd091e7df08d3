"""From token ids to tuned weights: batches, loss, optimizer, checkpoints, and the one loop."""
