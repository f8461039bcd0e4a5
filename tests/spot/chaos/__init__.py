"""Random chaos: runs in a simulated cluster that are disturbed in many ways, and a verdict on what came of them.

`python -m tests.spot.chaos --scenarios 200 --seed 0 --workers 2`
"""
