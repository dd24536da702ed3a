"""Linear-quadratic control: dynamics, policies and every exact answer about them.

`LQProblem` states the problem. Its `problem()` is what the simulator and the learners take; its
other methods answer in closed form (float64, numpy and scipy): values, returns, gradients,
advantage rates, performance differences, path KL, moments, and the same for the Euler–Maruyama
chain that a simulation actually runs. (docs/theory, linear-quadratic problems.)
"""

from ctcontrol.exact.lq._arrays import Array as Array
from ctcontrol.exact.lq._chain import EulerMaruyamaChain as EulerMaruyamaChain
from ctcontrol.exact.lq._dynamics import ElementwiseLinearSDE as ElementwiseLinearSDE
from ctcontrol.exact.lq._dynamics import GaussianInitialLaw as GaussianInitialLaw
from ctcontrol.exact.lq._dynamics import LinearSDE as LinearSDE
from ctcontrol.exact.lq._dynamics import QuadraticReward as QuadraticReward
from ctcontrol.exact.lq._exact_value import ChainValue as ChainValue
from ctcontrol.exact.lq._exact_value import ExactValue as ExactValue
from ctcontrol.exact.lq._functionals import Moments as Moments
from ctcontrol.exact.lq._functionals import PolicyGradient as PolicyGradient
from ctcontrol.exact.lq._law import LinearGaussianLaw as LinearGaussianLaw
from ctcontrol.exact.lq._policy import FixedLinearGaussianPolicy as FixedLinearGaussianPolicy
from ctcontrol.exact.lq._policy import LinearGaussianPolicy as LinearGaussianPolicy
from ctcontrol.exact.lq._problem import LQProblem as LQProblem
from ctcontrol.exact.lq._riccati import riccati_by_hamiltonian as riccati_by_hamiltonian
from ctcontrol.exact.lq._riccati import solve_riccati as solve_riccati
from ctcontrol.exact.lq._schedule import Constant as Constant
from ctcontrol.exact.lq._schedule import Piecewise as Piecewise
from ctcontrol.exact.lq._schedule import Schedule as Schedule
from ctcontrol.exact.lq._schedule import Smooth as Smooth
from ctcontrol.exact.lq._skeleton import ClosedLinearSDE as ClosedLinearSDE
from ctcontrol.exact.lq._skeleton import Skeleton as Skeleton
from ctcontrol.exact.lq._skeleton import StepReward as StepReward
from ctcontrol.exact.lq._stationary import StationaryLQ as StationaryLQ
from ctcontrol.exact.lq._system import Coefficients as Coefficients
from ctcontrol.exact.lq._system import LinearQuadraticSystem as LinearQuadraticSystem
from ctcontrol.exact.lq._value_function import AdvantageRate as AdvantageRate
from ctcontrol.exact.lq._value_function import Quadratic as Quadratic
from ctcontrol.exact.lq._value_function import QuadraticValue as QuadraticValue
