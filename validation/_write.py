"""Outcomes as JSON, as a page, as figures and as documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctcontrol_diffusion.report.blocks import Card, Column, cards, note, picture, section, table
from ctcontrol_diffusion.report.page import page
from validation._figure import draw
from validation._report import Claim
from validation._run import Outcome

COMMAND = "python -m validation"


def records(
    outcomes: Sequence[Outcome], command: str = COMMAND, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Every claim as plain data, what its numbers mean, and what Ctrl-C left unfinished."""
    return {
        "command": command,
        "unfinished": list(missing),
        "theorems": {
            outcome.theorem: {
                "title": outcome.report.title,
                "statement": outcome.report.statement,
                "assumptions": outcome.report.assumptions,
                "source": outcome.report.source,
                "code": list(outcome.report.code),
                "figure": outcome.report.plot.title,
                "seconds": round(outcome.seconds, 1),
                "claims": {
                    claim.name: {"statement": claim.statement, "relation": claim.relation}
                    for claim in outcome.report.claims
                },
            }
            for outcome in outcomes
        },
        "claims": [
            {
                "theorem": outcome.theorem,
                "name": claim.name,
                "expected": claim.expected,
                "estimate": claim.estimate,
                "stderr": claim.stderr,
                "tolerance": claim.tolerance,
                "passed": claim.passed,
            }
            for outcome in outcomes
            for claim in outcome.report.claims
        ],
    }


def cells(claim: Claim) -> tuple[str, str, str, str]:
    """Expected, estimate, tolerance and verdict as text."""
    sign = "" if claim.relation == "=" else f"{claim.relation} "
    error = f" ± {claim.stderr:.1g}" if claim.stderr else ""
    verdict = "holds" if claim.passed else "FAILS"
    return (
        f"{sign}{claim.expected:.6g}",
        f"{claim.estimate:.6g}{error}",
        f"{claim.tolerance:.1g}",
        verdict,
    )


def html(outcomes: Sequence[Outcome], command: str, missing: Sequence[str] = ()) -> str:
    """One self-contained page, which says what Ctrl-C left unfinished."""
    claims = [claim for outcome in outcomes for claim in outcome.report.claims]
    good = sum(claim.passed for claim in claims)
    head = [
        Card("claims that hold", f"{good} of {len(claims)}"),
        Card("theorems", str(len(outcomes))),
        Card("time", f"{sum(outcome.seconds for outcome in outcomes):.0f} s"),
    ]
    columns = [
        Column("expected"),
        Column("estimate ± s.e."),
        Column("tolerance"),
        Column("verdict"),
    ]
    bodies = [
        section(
            outcome.report.title,
            note(f"{outcome.report.statement} {outcome.report.assumptions}"),
            table(
                ["claim"],
                columns,
                [([claim.statement], cells(claim)) for claim in outcome.report.claims],
            ),
            picture(draw(outcome.report.plot), outcome.report.plot.title),
        )
        for outcome in outcomes
    ]
    said = f"stopped before the end of {', '.join(missing)}" if missing else "seen to hold"
    return page("Validation", f"Every theorem, {said}: {command}", cards(head), *bodies)


def figures(outcomes: Sequence[Outcome], folder: Path) -> None:
    """One PNG a theorem."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        (folder / f"{outcome.theorem}.png").write_bytes(draw(outcome.report.plot))
