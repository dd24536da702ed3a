"""Problems whose answers are known exactly: the ground truth of tests and validation.

Each room is one family: `lq` (linear-quadratic control), `tilt` (diffusion models of Gaussian and
mixture data, tilted by a quadratic reward). The generic code never imports them.
"""
