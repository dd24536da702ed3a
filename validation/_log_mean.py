"""How low the logarithm of a sample mean is."""

import numpy as np


def log_of_mean(values: np.ndarray, probabilities: np.ndarray, n: int) -> float:
    """E log(mean of n draws) − log E of positive values with these probabilities; exactly.

    E log S = ∫(e^{−s} − E e^{−sS})ds/s over s > 0, and E e^{−sS} of a sum is the nth power of
    that of one draw: Frullani's integral, by a trapezoidal rule in log s.
    """
    scaled = values / (probabilities @ values)
    y = np.linspace(-45.0, 15.0, 1201)
    one = np.exp(-np.exp(y)[:, None] / n * scaled) @ probabilities
    return float((np.exp(-np.exp(y)) - one**n).sum() * (y[1] - y[0]))
