"""One-line mutations of the source, each a classic mistake, with the tests that must notice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A line of the source, made wrong.

    Attributes:
        mistake: what the wrong line means.
        file: from the root.
        old: text that occurs exactly once in it.
        new: what replaces it.
        tests: files, folders or single tests of which one must fail.
    """

    mistake: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _of(mistake: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(mistake, file, old, new, tests)


_LQ = "tests/ctcontrol/exact/lq/"
_TILT = "tests/ctcontrol/exact/tilt/"
_RATES = "tests/ctcontrol/advantages/test_rates.py"


def _claims(theorem: str) -> str:
    return f"tests/validation/test_claims.py::test_every_claim_holds[{theorem}]"


MUTANTS = (
    # The clock.
    _of(
        "reverse diffusion with g at t in place of T − t",
        "ctcontrol/exact/tilt/_reversal.py",
        "return self.forward.horizon - t\n",
        "return t\n",
        _TILT,
    ),
    _of(
        "exact diffusion problem with g at t in place of T − t",
        "ctcontrol/exact/tilt/_scores.py",
        "s, eye = self.horizon - t, np.eye(self.states)",
        "s, eye = t, np.eye(self.states)",
        _TILT + "test_gaussian.py",
    ),
    _of(
        "noise schedule of networks on the wrong clock",
        "ctcontrol_diffusion/schedule.py",
        "position = (1.0 - t.double()).clamp(0, 1)",
        "position = t.double().clamp(0, 1)",
        "tests/ctcontrol_diffusion/test_schedule.py",
    ),
    _of(
        "link with its boundary condition at noise, cos(πt/2T)",
        "ctcontrol/_link.py",
        "return (1 - t / self.horizon).clamp(0, 1)",
        "return (t / self.horizon).clamp(0, 1)",
        "tests/ctcontrol/test_link.py",
        "tests/contracts/test_link.py",
    ),
    # Path KL.
    _of(
        "path KL without its ½",
        "ctcontrol/solvers/_euler.py",
        "return 0.5 * (t1 - t0) * inner(white, white)",
        "return (t1 - t0) * inner(white, white)",
        "tests/ctcontrol/test_regularizer.py",
        "tests/ctcontrol/solvers/test_euler.py",
    ),
    _of(
        "exact path KL without its ½",
        "ctcontrol/exact/lq/_functionals.py",
        "[0.5 * ((now.B.T @ whitened) * square).sum(),",
        "[1.0 * ((now.B.T @ whitened) * square).sum(),",
        _LQ + "test_functionals.py",
    ),
    _of(
        "path KL with its expectation under the reference",
        "ctcontrol/exact/lq/_functionals.py",
        "result = moments(lq, law, integrand, 2, reference.schedules)",
        "result = moments(lq, reference, integrand, 2, law.schedules)",
        _LQ + "test_functionals.py",
    ),
    _of(
        "the drawn action, not its mean, in the KL",
        "ctcontrol/_loop.py",
        "t0, t1, x, law, anchor, context)",
        "t0, t1, x, type(law)(a, law.std), anchor, context)",
        "tests/ctcontrol/test_regularizer.py",
        "tests/ctcontrol/test_simulate.py",
    ),
    _of(
        "path KL taken for the KL of the samples",
        "ctcontrol/exact/tilt/_gaussian.py",
        "return Divergence(path, gaussian_kl(*ends), self._gap(law, other))",
        "return Divergence(path, path, self._gap(law, other))",
        _claims("kl_identity"),
        _TILT,
    ),
    _of(
        "continuous-time KL on a coarse DDIM chain",
        "ctcontrol_diffusion/solvers.py",
        "return 0.5 * (gain / std) ** 2 * inner(gap, gap)",
        "return 0.5 * (t1 - t0) * sde.schedule.beta(t0) * inner(gap, gap)",
        "tests/ctcontrol_diffusion/test_solvers.py",
    ),
    _of(
        "the last DDIM step, without noise, passes the door",
        "ctcontrol/_policy.py",
        "if not bool((torch.isfinite(std) & (std > 0)).all()):",
        "if not bool(torch.isfinite(std).all()):",
        "tests/ctcontrol/test_policy.py",
        "tests/ctcontrol_diffusion/test_solvers.py",
    ),
    # Schemes.
    _of(
        "the second stage of Heun's scheme at the first time",
        "ctcontrol/solvers/_heun.py",
        "slope = slope + sde.drift(t1, guess, a, context)",
        "slope = slope + sde.drift(t0, guess, a, context)",
        "tests/ctcontrol/solvers/test_orders.py",
    ),
    _of(
        "the block of Van Loan without its transpose",
        "ctcontrol/solvers/_van_loan.py",
        "np.block([[-A, diffusion], [np.zeros((d, d)), A.T]])",
        "np.block([[-A, diffusion], [np.zeros((d, d)), A]])",
        "tests/ctcontrol/solvers/test_exact_linear.py",
    ),
    _of(
        "a bridge with the variance of a free path",
        "ctcontrol/exact/lq/_bridge.py",
        "return M, first.covariance - gain @ cross.T",
        "return M, first.covariance",
        "tests/ctcontrol/solvers/test_exact_linear.py",
    ),
    _of(
        "an exponential integrator with the noise of the free process",
        "ctcontrol_diffusion/solvers.py",
        "return 1 / kept, lost / kept, (lost * spread[1] / spread[0]).sqrt()",
        "return 1 / kept, lost / kept, lost.sqrt() / kept",
        "tests/ctcontrol_diffusion/test_exponential.py",
    ),
    # Dynamics.
    _of(
        "reverse drift −½βx in place of +½βx",
        "ctcontrol/exact/tilt/_reversal.py",
        "return like(-self.forward.pull(self._clock(t)), x) * x",
        "return like(self.forward.pull(self._clock(t)), x) * x",
        _TILT,
    ),
    _of(
        "noise ∝ Δt in place of √Δt",
        "ctcontrol/noise/_white.py",
        "self.normal(math.sqrt(t1 - t0), out)",
        "self.normal(t1 - t0, out)",
        "tests/ctcontrol/test_noise.py",
        "tests/contracts/test_noise.py",
    ),
    _of(
        "a held action does not move the chain",
        "ctcontrol/exact/lq/_chain.py",
        "noise = dt * lq.diffusion + dt**2 * lq.B @ spread @ lq.B.T\n            means",
        "noise = dt * lq.diffusion\n            means",
        _LQ + "test_chain.py",
    ),
    _of(
        "sampler noise η forgotten in the drift",
        "ctcontrol/exact/tilt/_reversal.py",
        "return 0.5 * (1 + self.eta**2) * self.forward",
        "return self.forward",
        _claims("initial_bias"),
        _TILT,
    ),
    # Reward and cost.
    _of(
        "cost taken for reward",
        "ctcontrol/exact/lq/_dynamics.py",
        "return -inner(x, linear(self.G, x))",
        "return inner(x, linear(self.G, x))",
        _LQ + "test_problem.py",
    ),
    _of(
        "entropy subtracted in place of added",
        "ctcontrol/_regularizer.py",
        "return -law.entropy() * (t1 - t0)",
        "return law.entropy() * (t1 - t0)",
        "tests/ctcontrol/test_regularizer.py",
    ),
    _of(
        "Merton's exploration free of charge",
        "ctcontrol/exact/portfolio/_merton.py",
        "second = law.mean**2 + law.variance",
        "second = law.mean**2",
        "tests/ctcontrol/exact/portfolio/test_merton.py",
    ),
    _of(
        "controlled volatility without its Hessian",
        "ctcontrol/exact/exploratory_lq/_system.py",
        "uu=0.5 * (self.D**2 * k.k2 - self.N),",
        "uu=0.5 * (-self.N),",
        "tests/ctcontrol/exact/exploratory_lq",
    ),
    # Occupation and discount.
    _of(
        "occupation law not normalized",
        "ctcontrol/exact/lq/_stationary.py",
        "return mean, np.real(solve_continuous_lyapunov(self._shift(closed), -source))",
        "return mean, np.real(solve_continuous_lyapunov(self._shift(closed), -source)) / rho",
        _LQ + "test_stationary.py",
    ),
    _of(
        "1/ρ missing from the performance difference",
        "ctcontrol/exact/lq/_stationary.py",
        "return float(-bend + 2 * tilt + noise + bonus) / lq.discount",
        "return float(-bend + 2 * tilt + noise + bonus)",
        _LQ + "test_stationary.py",
    ),
    _of(
        "performance difference along the old policy",
        "ctcontrol/exact/lq/_system.py",
        "return advantage_integral(self, law, new, along=new)",
        "return advantage_integral(self, law, new, along=law)",
        _LQ + "test_functionals.py",
    ),
    _of(
        "discount e^{+ρt} of rows",
        "ctcontrol/_trajectory.py",
        "weight=(-self.discount * t0).exp(),",
        "weight=(self.discount * t0).exp(),",
        "tests/ctcontrol/test_trajectory.py",
    ),
    _of(
        "return to go without discount",
        "ctcontrol/_trajectory.py",
        "shrink = (-discount * grid.lengths).exp().tolist()",
        "shrink = (0 * grid.lengths).exp().tolist()",
        "tests/ctcontrol/test_trajectory.py",
    ),
    # Values, critics and advantages.
    _of(
        "mean-square TD error: differences as test functions",
        "ctcontrol/critics/_test_functions.py",
        "return features_along(value, trajectory)[:-1]\n",
        "return -features_along(value, trajectory).diff(dim=0)\n",
        "tests/ctcontrol/critics",
    ),
    _of(
        "the noise added to the target, not taken from it",
        "ctcontrol/critics/_return.py",
        "return trajectory.return_to_go() - discounted_to_go(noise,",
        "return trajectory.return_to_go() + discounted_to_go(noise,",
        "tests/ctcontrol/critics",
    ),
    _of(
        "the noise of the step itself taken from the advantage",
        "ctcontrol/advantages/_return.py",
        "later = discounted_to_go(now, 0.0, trajectory.grid, trajectory.discount) - now",
        "later = discounted_to_go(now, 0.0, trajectory.grid, trajectory.discount)",
        "tests/ctcontrol/advantages",
    ),
    _of(
        "temporal difference with the gain of the step left out",
        "ctcontrol/_along.py",
        "return shrink * values[1:] - values[:-1] + trajectory.gains",
        "return shrink * values[1:] - values[:-1]",
        "tests/ctcontrol/test_along.py",
        _RATES,
    ),
    _of(
        "trace of TD(λ) that decays per step, not per unit of time",
        "ctcontrol/critics/_test_functions.py",
        "shrink = (-self.decay * trajectory.grid.lengths).exp().tolist()",
        "shrink = (-self.decay * torch.ones(trajectory.steps)).exp().tolist()",
        "tests/ctcontrol/critics",
    ),
    _of(
        "Itô's ½ dropped",
        "ctcontrol/advantages/_ito.py",
        "+ 0.5 * sde.volatility(",
        "+ sde.volatility(",
        _RATES,
    ),
    _of(
        "the action-free term dropped from q",
        "ctcontrol/advantages/_closed_form.py",
        "return (taken - average).reshape(trajectory.steps, trajectory.batch)",
        "return taken.reshape(trajectory.steps, trajectory.batch)",
        "tests/ctcontrol/advantages/test_centered.py",
    ),
    _of(
        "advantage that forgets −ρV",
        "ctcontrol/advantages/_ito.py",
        "                - problem.discount * jet.value\n",
        "",
        _RATES,
    ),
    _of(
        "tr(RΛ) dropped from the exact advantage",
        "ctcontrol/exact/lq/_value_function.py",
        "return np.asarray(-bend + 2 * (delta * (x @ E.T + e)).sum(-1) + spread)",
        "return np.asarray(-bend + 2 * (delta * (x @ E.T + e)).sum(-1))",
        _LQ,
    ),
    # Policies and losses.
    _of(
        "log ratio averaged over coordinates, not summed",
        "ctcontrol/_gaussian.py",
        "return sum_event(terms.expand_as(self.mean))",
        "return terms.expand_as(self.mean).flatten(1).mean(1)",
        "tests/ctcontrol/test_gaussian.py",
    ),
    _of(
        "advantages whitened step by step",
        "ctcontrol/_transform.py",
        "return rates / rates.std().clamp_min(1e-8)",
        "return rates / rates.std(1, keepdim=True).clamp_min(1e-8)",
        "tests/ctcontrol/test_transform.py",
        "tests/contracts/test_transform.py",
    ),
    _of(
        "PPO's maximum in place of the minimum",
        "ctcontrol/algorithms/_ppo.py",
        "gain = torch.minimum(gain, clipped * rows.signal)",
        "gain = torch.maximum(gain, clipped * rows.signal)",
        "tests/ctcontrol/algorithms/test_ppo.py",
    ),
    _of(
        "√KL where KL belongs",
        "ctcontrol/algorithms/_trust.py",
        "    def distance(self, kl: Tensor) -> Tensor:\n        return kl\n",
        "    def distance(self, kl: Tensor) -> Tensor:\n        return (kl + 1e-12).sqrt()\n",
        "tests/ctcontrol/algorithms/test_trust.py",
    ),
    _of(
        "KL where √KL belongs",
        "ctcontrol/algorithms/_trust.py",
        "return (kl.clamp_min(0) + self.smoothing**2).sqrt() - self.smoothing",
        "return kl",
        "tests/ctcontrol/algorithms/test_trust.py",
    ),
    _of(
        "trust coefficient that falls where it should rise",
        "ctcontrol/algorithms/_trust.py",
        "return replace(self, coefficient=self.coefficient * self.factor)",
        "return replace(self, coefficient=self.coefficient / self.factor)",
        "tests/ctcontrol/algorithms/test_trust.py",
    ),
    _of(
        "the direct gradient of the penalty forgotten",
        "ctcontrol/algorithms/_base.py",
        "return rows.weight * regularizer.weight * amount",
        "return 0 * rows.weight * regularizer.weight * amount",
        "tests/contracts/test_algorithm.py",
    ),
    # Exact problems.
    _of(
        "cross cost forgotten by the Riccati equation",
        "ctcontrol/exact/lq/_riccati.py",
        "cross = P @ B_ + S_\n",
        "cross = P @ B_\n",
        _LQ + "test_riccati.py",
    ),
    _of(
        "tilt by e^{2r/κ}, the factor 2 of the penalty without ½",
        "ctcontrol/exact/tilt/_gaussian.py",
        "return spread @ (precision @ self.mean + self.linear / self.kl_weight), spread",
        "return spread @ (precision @ self.mean + 2 * self.linear / self.kl_weight), spread",
        _TILT,
    ),
    _of(
        "initial-value bias forgotten: the optimum ends at the target",
        "ctcontrol/exact/tilt/_gaussian.py",
        "return self.transition(0.0)[2] @ self.linear / self.kl_weight",
        "return self.covariance @ self.linear / self.kl_weight",
        _claims("initial_bias"),
        _TILT,
    ),
    _of(
        "standard deviation in place of standard error",
        "ctcontrol/_estimate.py",
        "math.sqrt(self.variance / self.n)",
        "math.sqrt(self.variance)",
        "tests/ctcontrol/test_estimate.py",
    ),
    # Noise and the loop.
    _of(
        "mirrored paths counted as independent",
        "ctcontrol/noise/_balanced.py",
        "return torch.cat([tile.reshape(2, -1).mean(0) for tile in tiles])",
        "return torch.cat(tiles)",
        "tests/ctcontrol/test_noise_laws.py",
    ),
    _of(
        "the points of a scramble counted as independent",
        "ctcontrol/noise/_sobol.py",
        "return samples.reshape(self.scrambles, self._points(len(samples))).mean(1)",
        "return samples",
        "tests/ctcontrol/test_estimation.py",
    ),
    _of(
        "every tile of paths gets the same noise",
        "ctcontrol/noise/_white.py",
        "seed_of(self.seed, tile.index)",
        "seed_of(self.seed, 0)",
        "tests/ctcontrol/test_noise.py",
    ),
    _of(
        "a bridge between nodes as wide as the path",
        "ctcontrol/noise/_construct.py",
        "math.sqrt(before * behind / (before + behind))",
        "math.sqrt(before + behind)",
        "tests/contracts/test_noise.py",
    ),
    _of(
        "coarse and fine paths of a level with noise of their own",
        "ctcontrol/_multilevel.py",
        "coarse = Coarsened(noise, self.grid)",
        "coarse = WhiteNoise(seed_of(seed, 2))",
        "tests/ctcontrol/test_multilevel.py",
    ),
    _of(
        "a stopped path is paid at the horizon",
        "ctcontrol/_record.py",
        "last = (-self.problem.discount * times).exp()",
        "last = self.weights[-1]",
        "tests/ctcontrol/test_rollout.py",
    ),
    _of(
        "the martingale of a value without its discount",
        "ctcontrol/_martingale.py",
        "return inner(slope, innovation) * self.weights[step.k]",
        "return inner(slope, innovation)",
        "tests/ctcontrol/test_martingale.py",
        "tests/ctcontrol/test_rollout.py",
    ),
    _of(
        "ΔZ drawn independently of ΔW",
        "ctcontrol/solvers/_sra1.py",
        "torch.add(increment, dw[:, 1], alpha=1 / math.sqrt(3)) * 0.5",
        "dw[:, 1] / math.sqrt(3)",
        "tests/ctcontrol/solvers",
    ),
    _of(
        "a gradient through a rollout that forgets what the next section costs",
        "ctcontrol/_rollout_gradient.py",
        "total = total + (rollout.final * costate).sum()",
        "total = total + 0.0 * costate.sum()",
        "tests/ctcontrol/test_rollout_gradient.py",
    ),
)
"""Add one with every mistake that was made, or nearly."""
