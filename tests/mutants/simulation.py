"""Mistakes in how paths are made and counted."""

from tests.mutants.mutant import of as _of

SIMULATION = (
    _of(
        "mirrored paths counted as independent",
        "ctcontrol/noise/_balanced.py",
        "return torch.cat([tile.reshape(2, -1).mean(0) for tile in tiles])",
        "return torch.cat(tiles)",
        "tests/ctcontrol/test_noise_laws.py",
    ),
    _of(
        "the parts of a minibatch counted as equally large",
        "ctcontrol/_descent.py",
        "len(span) / total)",
        "1 / len(division.parts(division.share(total))))",
        "tests/ctcontrol/test_division.py",
    ),
    _of(
        "every process takes the first share",
        "ctcontrol/_division.py",
        "counts, rank = self.counts(rows), self.collective.rank",
        "counts, rank = self.counts(rows), 0",
        "tests/ctcontrol/test_division.py",
    ),
    _of(
        "every part of a rollout gets the noise of the first",
        "ctcontrol/_deal.py",
        "return slice(part.start - self.share.start, part.stop - self.share.start)",
        "return slice(0, len(part))",
        "tests/ctcontrol/test_parts.py",
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
