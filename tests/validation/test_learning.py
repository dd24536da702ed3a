"""The table of learning: what diverges or does not apply is said."""

import math
from dataclasses import replace

from ctcontrol import CtcontrolError, Estimate, Policy
from ctcontrol.exact.lq import LinearGaussianPolicy
from validation import learning
from validation.lessons import quadratic
from validation.lessons.methods import METHODS, Run, learn
from validation.lessons.table import markdown


def row(*regrets: float) -> learning.Row:
    return learning.Row(tuple(Run([1000], [Estimate(r, 0.0, 1)]) for r in regrets), "", 1000)


def test_a_claim_is_of_the_mean_and_names_the_worst() -> None:
    claim = learning.claim(("lq2", "ppo_td"), row(0.01, 0.03))
    assert claim.passed
    assert "mean of 2 seeds, worst 0.03" in claim.statement
    assert (claim.estimate, claim.relation, claim.tolerance) == (0.02, "≤", 0.0)
    assert not learning.claim(("lq2", "ppo_td"), row(0.01, 0.2)).passed
    assert not learning.claim(("lq2", "ppo_td"), row(0.01, math.inf)).passed


def test_the_seeds_of_the_full_table_saw_no_tuning() -> None:
    assert not set(learning.BLIND) & set(learning.TUNED)
    assert len(learning.BLIND) == 5


def test_a_run_that_diverges_has_infinite_regret() -> None:
    """Where the return has no finite value, and where the rollout has none."""
    course, looks = quadratic.regulator(2, iterations=2, batch=8, bound=0.1), []

    def once(policy: Policy) -> Estimate:
        looks.append(policy)
        if len(looks) > 1:
            raise CtcontrolError("no finite return")
        return Estimate(1.0, 0.0, 1)

    assert learn(replace(course, regret=once), METHODS["pg_offline"], 0).last.mean == math.inf
    longer = replace(course, iterations=4)
    wild = replace(longer, regret=lambda policy: Estimate(1.0, 0.0, 1), rates=(1e200, 0.05))
    assert learn(wild, METHODS["pg_offline"], 0).last.mean == math.inf


def test_the_optimal_gain_has_no_regret() -> None:
    course = quadratic.regulator(2, iterations=1, batch=8, bound=0.1)
    lq = quadratic.stationary(2, 0.0)
    gain, _, _ = lq.optimal_policy().at(0.0)
    assert abs(course.regret(LinearGaussianPolicy(gain, std=0.7)).mean) < 1e-9


def test_the_table_has_a_dash_where_nothing_is_claimed() -> None:
    claims = [
        {"theorem": "learning", "name": "a_ddpo", "estimate": 0.0123, "stderr": 0.002, "passed": 1},
        {"theorem": "learning", "name": "b_ddpo", "estimate": 0.5, "stderr": 0.0, "passed": 0},
        {"theorem": "cqsm", "name": "c_ddpo", "estimate": 0.5, "stderr": 0.0, "passed": 1},
    ]
    lines = markdown(claims, {"a": "A", "b": "B", "c": "C"}).splitlines()
    assert lines[0] == "| | A | B | C |"
    assert "| DDPO | 0.012 ± 0.002 | **0.5** | – |" in lines
