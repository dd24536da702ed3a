"""Value functions of diffusion models: what is known, and designs of what is learned.

V(t, x) = c_in(t) · guess(t, x) + c_out(t) · F(t, x), a `ctcontrol.PinnedValue`. Guesses look at the
denoised state, at the state, or at nothing; F is a perceptron, a convolutional network, a copy of
the reward that learns, or a head on what the policy's own network computes.
"""

from ctcontrol_diffusion.values._convolution import ImageResidual as ImageResidual
from ctcontrol_diffusion.values._denoised import Denoised as Denoised
from ctcontrol_diffusion.values._features import FeatureHead as FeatureHead
from ctcontrol_diffusion.values._guess import DenoisedGuess as DenoisedGuess
from ctcontrol_diffusion.values._guess import Judge as Judge
from ctcontrol_diffusion.values._guess import NoGuess as NoGuess
from ctcontrol_diffusion.values._guess import OriginalGuess as OriginalGuess
from ctcontrol_diffusion.values._perceptron import PixelResidual as PixelResidual
from ctcontrol_diffusion.values._tower import OnDenoised as OnDenoised
from ctcontrol_diffusion.values._tower import OnImages as OnImages
from ctcontrol_diffusion.values._tower import RewardTower as RewardTower
