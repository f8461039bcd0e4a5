"""GPU steps on spot capacity: where to place an attempt, how it ended, what it does when its machine is taken away."""
