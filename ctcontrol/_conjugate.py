"""Conjugate gradients: solve with a matrix of which only products are known."""

from collections.abc import Callable

from torch import Tensor

from ctcontrol._tensor import inner, like


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, steps: int, *, tolerance: float = 1e-12
) -> Tensor:
    """x with Hx = b for every row, H symmetric positive definite row by row; (batch, *event).

    `product` is v ↦ Hv on (batch, *event). Exact after as many steps as a row's H has different
    eigenvalues; ends sooner where every squared residual is below `tolerance`² |b|². Rows never
    mix. (Hestenes and Stiefel 1952.)
    """
    x, residual = b.new_zeros(b.shape), b.clone()
    direction, size = residual.clone(), inner(residual, residual)
    enough = tolerance**2 * size
    for _ in range(steps):
        if bool((size <= enough).all()):
            break
        image = product(direction)
        curvature = inner(direction, image)
        going = (size > enough) & (curvature > 0)
        rate = (size / curvature.where(going, 1)).where(going, 0)
        x = x + like(rate, b) * direction
        residual = residual - like(rate, b) * image
        smaller = inner(residual, residual)
        direction = residual + like((smaller / size.where(going, 1)).where(going, 0), b) * direction
        size = smaller
    return x
