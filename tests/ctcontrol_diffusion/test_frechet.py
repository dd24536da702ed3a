import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.frechet import frechet_distance, frechet_error
from tests.helpers import normal


def cloud(n: int, mean: list[float], covariance: Tensor, seed: int = 0) -> Tensor:
    """n rows whose sample mean and covariance are exactly these."""
    z = normal(n, len(mean), seed=seed)
    z = z - z.mean(0)
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.mT @ z / (n - 1))).mT
    return torch.tensor(mean, dtype=z.dtype) + white @ torch.linalg.cholesky(covariance).mT


def diagonal(*std: float) -> Tensor:
    return torch.diag(torch.tensor(std, dtype=torch.float64) ** 2)


def test_a_shift_is_its_squared_length() -> None:
    C = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    a, b = cloud(50, [0.0, 1.0], C), cloud(70, [3.0, -1.0], C, seed=1)
    assert frechet_distance(a, b) == pytest.approx(9 + 4, abs=1e-6)


def test_diagonal_covariances() -> None:
    """Σ (s_i − r_i)² of the standard deviations, not of the variances."""
    a = cloud(40, [0.0, 0.0, 0.0], diagonal(1.0, 2.0, 0.5))
    b = cloud(30, [1.0, 0.0, 0.0], diagonal(3.0, 2.0, 1.5), seed=1)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0 + 1, abs=1e-6)


def test_covariances_that_do_not_commute() -> None:
    A = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    B = torch.tensor([[0.5, -0.3], [-0.3, 3.0]], dtype=torch.float64)
    expected = np.trace(A.numpy() + B.numpy() - 2 * np.real(sqrtm(A.numpy() @ B.numpy())))
    a, b = cloud(40, [0.0, 0.0], A), cloud(30, [0.0, 0.0], B, seed=1)
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), abs=1e-6)


def test_one_feature() -> None:
    a, b = cloud(40, [1.0], diagonal(2.0)), cloud(30, [4.0], diagonal(0.5), seed=1)
    assert frechet_distance(a, b) == pytest.approx(9 + 1.5**2, abs=1e-6)


def test_equal_sets_have_no_distance_even_with_fewer_rows_than_features() -> None:
    for a in (normal(60, 5), normal(4, 20)):
        assert abs(frechet_distance(a, a)) < 1e-4
        shuffled = a[torch.randperm(len(a), generator=torch.Generator().manual_seed(0))]
        assert abs(frechet_distance(a, shuffled)) < 1e-4


def test_features_that_never_vary() -> None:
    a = torch.cat([normal(50, 2), torch.ones(50, 1, dtype=torch.float64)], 1)
    b = torch.cat([normal(50, 2, seed=1), torch.zeros(50, 1, dtype=torch.float64)], 1)
    flat = frechet_distance(a[:, :2], b[:, :2])
    assert frechet_distance(a, b) == pytest.approx(flat + 1, abs=1e-4)


def test_a_model_that_draws_one_image() -> None:
    one, b = torch.ones(40, 2, dtype=torch.float64), cloud(30, [0.0, 1.0], diagonal(2.0, 1.0))
    for distance in (frechet_distance(one, b), frechet_distance(b, one)):
        assert distance == pytest.approx(1 + 4 + 1, abs=1e-6)
    assert frechet_distance(one, one) == 0
    assert frechet_error(one, b) < 1e-10


@pytest.mark.parametrize(("n", "rows"), [(200, 20), (60, 60)])
def test_the_error_bar_is_the_spread_over_samples(n: int, rows: int) -> None:
    """Against the standard deviation over 150 independent samples of a."""
    b = normal(4000, 3, seed=1)
    samples = [normal(n, 3, seed=100 + i) * 1.3 + 0.4 for i in range(150)]
    spread = float(np.std([frechet_distance(a, b) for a in samples], ddof=1))
    errors = [frechet_error(a, b, resamples=rows) for a in samples[:20]]
    assert float(np.mean(errors)) == pytest.approx(spread, rel=0.25)


def test_the_error_bar_of_ordered_rows() -> None:
    """Rows come sorted by class; blocks of them must still be like the whole."""
    a, b = normal(400, 2), normal(500, 2, seed=1)
    ordered = a[a[:, 0].argsort()]
    assert frechet_error(ordered, b) == pytest.approx(frechet_error(a, b), rel=0.5)


def test_the_error_bar_of_few_rows() -> None:
    """Leaving out blocks that are empty would say 0."""
    a, b = normal(6, 2), normal(100, 2, seed=1)
    assert frechet_error(a, b) == frechet_error(a, b, resamples=6)
    assert frechet_error(a, b) > 0


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 3), (5, 3)), ((5, 3), (1, 3)), ((5, 3), (5, 4)), ((5,), (5, 3)), ((0, 3), (5, 3))],
)
def test_what_has_no_distance(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(CtcontrolError, match="two sets of at least 2 feature rows"):
        frechet_distance(torch.zeros(a), torch.zeros(b))


def test_two_rows_have_no_error_bar() -> None:
    with pytest.raises(CtcontrolError, match="at least 2 feature rows"):
        frechet_error(normal(2, 3), normal(5, 3))
