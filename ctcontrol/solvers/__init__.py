"""Numerical schemes: one step over an interval; the loop over time lives in `simulate`.

| scheme | for | strong order | weak order | step | drifts a step |
|---|---|---|---|---|---|
| `EulerMaruyama` | any dynamics | ½, 1 for additive noise | 1 | Gaussian | 1 |
| `ExactLinear` | linear drift, constant noise | exact | exact | Gaussian | 0 |
| `Heun` | additive noise | 1 | 2 | states alone | 2 |
| `SRA1` | additive noise | 1.5 | 2 | states alone | 2 |

Orders are those of the dynamics with the action held over a step. A scheme whose step is Gaussian
is a `Solver`, and serves training and likelihoods too; the others, a `Scheme`, simulate and
estimate.
"""

from ctcontrol.solvers._base import Scheme as Scheme
from ctcontrol.solvers._base import Solver as Solver
from ctcontrol.solvers._euler import EulerMaruyama as EulerMaruyama
from ctcontrol.solvers._exact_linear import ExactLinear as ExactLinear
from ctcontrol.solvers._heun import Heun as Heun
from ctcontrol.solvers._sra1 import SRA1 as SRA1
from ctcontrol.solvers._torchsde import TorchsdeSystem as TorchsdeSystem
