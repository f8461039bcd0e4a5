"""Where policies and executors are tried out on simulated machines: no cloud, no cost, the same result every time."""
