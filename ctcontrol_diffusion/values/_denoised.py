"""What a clean image looks like while it is still noisy."""

from dataclasses import dataclass

from ctcontrol import Action, Context, MeanFunction, State, Time, like
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.score import denoise


@dataclass(frozen=True, eq=False)
class Denoised:
    """x̂₀(t, x) = E[X_0 | X_t = x], shaped like x.

    With the policy's mean action given, x̂₀ costs no network evaluation. Its derivative in x then
    uses the Jacobian that x̂₀ would have if the data were N(·, v I), α v/(α² v + σ²), in place of
    the derivative of the network.

    Attributes:
        score: evaluated only when the mean action is not given.
        schedule: α and σ.
        data_variance: v, mean variance of a coordinate of the data.
    """

    score: MeanFunction
    schedule: Schedule
    data_variance: float

    def __call__(self, t: Time, x: State, context: Context, mean: Action | None = None) -> State:
        if mean is None:
            return denoise(self.schedule, t, x, self.score(t, x, context))
        still, now = x.detach(), t.detach()
        clean = denoise(self.schedule, t, still, mean).detach()
        alpha, v = self.schedule.alpha(now), self.data_variance
        slope = alpha * v / (alpha**2 * v + self.schedule.variance(now))
        return clean + like(slope, x) * (x - still)  # x − x is 0, and its derivatives are not
