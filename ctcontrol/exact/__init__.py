"""Problems whose answers are known exactly: the ground truth of tests and validation.

Each room is one family: `lq` (linear-quadratic control). The generic code never imports them.
"""
