"""Fine-tuning with a KL penalty where the answer, the tilted law p e^{r/κ}, is known.

`GaussianTilt` is linear-quadratic: every affine correction of the score has an exact return,
gradient and path KL. `MixtureTilt` has many modes: exact value, optimal score and target.
"""

from ctcontrol.exact.tilt._gaussian import GaussianTilt as GaussianTilt
from ctcontrol.exact.tilt._mixture import GaussianMixture as GaussianMixture
from ctcontrol.exact.tilt._problem import MixtureTilt as MixtureTilt
from ctcontrol.exact.tilt._problem import TiltValue as TiltValue
from ctcontrol.exact.tilt._schedule import VariancePreserving as VariancePreserving
