"""Fine-tuning with a KL penalty where the answer, the tilted law p e^{r/κ}, is known.

What is exact, for variance-preserving, sub-variance-preserving and variance-exploding processes
and flow matching, in any dimension:

* `GaussianTilt`: for every affine correction of the score and every η-sampler the return, value,
  gradient, path and marginal KL; the optimum, the law of its samples and the start that removes
  their bias.
* `DeterministicTilt`: the same return and optimum along the probability-flow ODE, and W₂.
* `RewardDirected`: value, policy and q-function of reward-directed q-learning, for SDE and ODE.
* `MixtureTilt`: value, optimal score and target for many modes, and the value without control.
* `StepTransfer`: the best corrections for N Euler steps, and what they lose at another N.

`Reversal` is the sampler that `simulate` runs for each of them.
"""

from ctcontrol.exact.tilt._deterministic import DeterministicTilt as DeterministicTilt
from ctcontrol.exact.tilt._gaussian import Divergence as Divergence
from ctcontrol.exact.tilt._gaussian import GaussianTilt as GaussianTilt
from ctcontrol.exact.tilt._gaussians import GaussianLaw as GaussianLaw
from ctcontrol.exact.tilt._gaussians import gaussian_kl as gaussian_kl
from ctcontrol.exact.tilt._gaussians import gaussian_w2 as gaussian_w2
from ctcontrol.exact.tilt._mixture import GaussianMixture as GaussianMixture
from ctcontrol.exact.tilt._problem import MixtureTilt as MixtureTilt
from ctcontrol.exact.tilt._problem import PretrainedValue as PretrainedValue
from ctcontrol.exact.tilt._problem import TiltValue as TiltValue
from ctcontrol.exact.tilt._reversal import Reversal as Reversal
from ctcontrol.exact.tilt._reversal import ScorePenaltyReward as ScorePenaltyReward
from ctcontrol.exact.tilt._reward_directed import RewardDirected as RewardDirected
from ctcontrol.exact.tilt._schedule import FlowMatching as FlowMatching
from ctcontrol.exact.tilt._schedule import ForwardProcess as ForwardProcess
from ctcontrol.exact.tilt._schedule import SubVariancePreserving as SubVariancePreserving
from ctcontrol.exact.tilt._schedule import VarianceExploding as VarianceExploding
from ctcontrol.exact.tilt._schedule import VariancePreserving as VariancePreserving
from ctcontrol.exact.tilt._scores import AffineScoreProblem as AffineScoreProblem
from ctcontrol.exact.tilt._steps import StepTransfer as StepTransfer
