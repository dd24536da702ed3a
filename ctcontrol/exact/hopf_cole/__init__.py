"""Control whose cost matches the noise: a logarithm makes the equation of optimal control linear.

`HopfCole`: exact optimal value, action and return of dX = u dt + σdW with action cost ½R|u|² and
state cost ½c|x|², for three rewards at the end: `LogCosh` (two modes), `LogMixture` (any number
of modes) and `LogQuadratic` (linear-quadratic).
"""

from ctcontrol.exact.hopf_cole._ends import LogCosh as LogCosh
from ctcontrol.exact.hopf_cole._ends import LogMixture as LogMixture
from ctcontrol.exact.hopf_cole._ends import LogQuadratic as LogQuadratic
from ctcontrol.exact.hopf_cole._ends import LogWeight as LogWeight
from ctcontrol.exact.hopf_cole._problem import HopfCole as HopfCole
from ctcontrol.exact.hopf_cole._problem import HopfColeReward as HopfColeReward
from ctcontrol.exact.hopf_cole._problem import HopfColeValue as HopfColeValue
