"""What simulation and estimation cost, beside the loops and libraries one would use instead.

`make bench` prints the small table; `python -m benchmarks` measures in pairs and writes the numbers
down (docs/performance.md). No test of the suite stands on any of this.
"""
