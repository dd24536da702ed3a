"""The Ornstein–Uhlenbeck process, whose generator has Hermite polynomials as eigenfunctions.

`OrnsteinUhlenbeck`: exact value, with derivatives, of every polynomial reward per unit of time or
at the horizon, with a horizon or without; exact moments of its law at every time and of its
discounted occupation law; exact samples of both.
"""

from ctcontrol.exact.ou._problem import OrnsteinUhlenbeck as OrnsteinUhlenbeck
from ctcontrol.exact.ou._problem import PolynomialReward as PolynomialReward
from ctcontrol.exact.ou._value import HermiteValue as HermiteValue
