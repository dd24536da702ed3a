"""Ways to estimate the value of a policy, by mean square error times cost."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Case
from benchmarks.law import expected_return
from benchmarks.rivals.ours import lq
from ctcontrol import TimeGrid, Value, simulate
from ctcontrol.exact.lq import LinearGaussianPolicy
from ctcontrol.noise import Antithetic, MomentMatched, NoiseSource, Sobol

PATHS, REPLICATES = 4096, 32
Recipe = Callable[[int], NoiseSource | None]
"""From a seed; None for what `simulate` takes by itself."""


RECIPES: dict[str, Recipe] = {
    "plain": lambda seed: None,
    "antithetic": lambda seed: Antithetic(seed),
    "moment matched": lambda seed: MomentMatched(seed),
    "Sobol, bridge": lambda seed: Sobol(seed, scrambles=1),
    "Sobol, bridge, few points": lambda seed: Sobol(seed, scrambles=16),
    "Sobol, PCA": lambda seed: Sobol(seed, scrambles=1, construction="pca"),
}
"""One scramble has no error bar: several as large have one, at the same error times cost. With the
same points in sixteen small scrambles the gain is less."""


def errors(name: str, steps: int) -> list[dict[str, Any]]:
    """One record a method: error against the exact value of the chain, and CPU seconds."""
    case = Case(name, PATHS, steps, "float64", cost=True)
    exact, grid = lq(case), TimeGrid.uniform(case.model.horizon, steps)
    problem = exact.problem()
    gain = case.model.K  # type: ignore[union-attr]
    policy = LinearGaussianPolicy(gain)
    wrong = exact.value(LinearGaussianPolicy(0.6 * gain))
    truth = expected_return(name, steps)

    def estimate(recipe: Recipe, value: Value | None, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        path = simulate(
            problem,
            policy,
            grid,
            PATHS,
            generator=generator,
            noise=recipe(seed),
            store="none",
            martingale=value,
        )
        sample = path.returns if path.martingale is None else path.returns - path.martingale
        return float(sample.mean())

    records: list[dict[str, Any]] = []
    for label, recipe in RECIPES.items():
        for value in (None, wrong):
            estimate(recipe, value, 0)
            start = time.process_time()
            found = [estimate(recipe, value, seed) for seed in range(1, REPLICATES + 1)]
            cost = (time.process_time() - start) / REPLICATES
            mse = float(np.mean((np.array(found) - truth) ** 2))
            method = label if value is None else f"{label} + control variate"
            records.append({"model": name, "steps": steps, "method": method, "mse": mse, "s": cost})
    plain = records[0]["mse"] * records[0]["s"]
    return [{**r, "gain": plain / (r["mse"] * r["s"])} for r in records]
