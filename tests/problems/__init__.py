"""Control problems whose answers are known without the library: short recursions in float64.

One family is enough: isotropic linear dynamics, affine Gaussian policies, quadratic rewards. The
Euler–Maruyama chain of it has a value that a ten-line recursion gives exactly, and autograd
through the recursion gives every policy gradient exactly. Variance-preserving reverse diffusions
of Gaussian data are members of the family.
"""

from tests.problems._diffusion import GaussianDiffusion as GaussianDiffusion
from tests.problems._exact import ChainValue as ChainValue
from tests.problems._exact import exact_for as exact_for
from tests.problems._exact import exact_rates as exact_rates
from tests.problems._linear import Isotropic as Isotropic
from tests.problems._linear import LearnedStd as LearnedStd
from tests.problems._linear import LinearProblem as LinearProblem
from tests.problems._linear import QuadraticReward as QuadraticReward
from tests.problems._linear import constant as constant
from tests.problems._linear import regulator as regulator
from tests.problems._trajectory import trajectory as trajectory
