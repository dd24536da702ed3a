"""What is promised of speed, memory and error, and whether the numbers keep it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Finder = Callable[[Record], Iterator[float]]


@dataclass(frozen=True)
class Promise:
    """A bound on every number that `find` yields.

    Attributes:
        sign: "≥" or "≤".
    """

    text: str
    sign: str
    bound: float
    find: Finder

    def verdict(self, found: Record) -> tuple[str, str]:
        """The least favourable number, and whether it is within the bound."""
        numbers = list(self.find(found))
        if not numbers:
            return "not measured", ""
        worst = min(numbers) if self.sign == "≥" else max(numbers)
        kept = worst >= self.bound if self.sign == "≥" else worst <= self.bound
        return f"{worst:,.3g}", "yes" if kept else "**no**"


def _ratios(part: str, like: dict[str, object], *contenders: str, best: bool = False) -> Finder:
    """Ratios of contenders in linear cases that are `like` this; with `best` the least a case."""

    def find(found: Record) -> Iterator[float]:
        rows = [
            row
            for row in found.get(part, [])
            if row.get("contender") in contenders
            and "ratio" in row
            and row["name"] in ("OU", "LQ")
            and all(row[key] == value for key, value in {"cost": False, **like}.items())
        ]
        for case in {row["case"] for row in rows}:
            ratios = [row["ratio"] for row in rows if row["case"] == case]
            yield from [min(ratios)] if best else ratios

    return find


def _overhead(found: Record) -> Iterator[float]:
    for ratio in _ratios("one_thread", SHORT, "torch, by hand")(found):
        yield 1 / ratio


def scaling(rows: list[Record]) -> dict[str, dict[int, float]]:
    """Process and steps -> number of paths -> seconds a path and step."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        about = f"{row['name']}, {row['steps']} steps, {row['dtype']}"
        found.setdefault(about, {})[row["batch"]] = row["per_path_step"]
    return found


def _flatness(found: Record) -> Iterator[float]:
    for costs in scaling(found.get("scale", [])).values():
        yield max(costs.values()) / min(costs.values())


def _ten_seeds(found: Record) -> Iterator[float]:
    for row in found.get("seeds", []):
        yield row["ratio"]


def _memory(found: Record) -> Iterator[float]:
    rows = {
        (r["case"], r["contender"]): r["extra"] for r in found.get("memory", []) if "extra" in r
    }
    for (case, name), extra in rows.items():
        if name == "torchsde" and (case, "ctcontrol") in rows:
            yield rows[case, "ctcontrol"] / extra


SOBOL, CONTROL = "Sobol, bridge", "plain + control variate"


def _gain(*methods: str, of: tuple[str, ...] = ("LQ",)) -> Finder:
    """The best of the methods, for every problem whose name begins so."""

    def find(found: Record) -> Iterator[float]:
        rows = [r for r in found.get("variance", []) if r.get("method") in methods]
        for model in dict.fromkeys(r["model"] for r in rows if r["model"].startswith(of)):
            yield max(r["gain_at_equal_time"] for r in rows if r["model"] == model)

    return find


NAIVE = "torch, naive loop"
FAST: dict[str, object] = {"dtype": "float32"}
EXACT: dict[str, object] = {"dtype": "float64"}
SHORT: dict[str, object] = {"batch": 10_000, "steps": 100}
WIDE: dict[str, object] = {"name": "LQ", "batch": 100_000, "steps": 100}

PROMISES = (
    Promise("naive loop, float32", "≥", 1.35, _ratios("one_thread", SHORT | FAST, NAIVE)),
    Promise("naive loop, float64", "≥", 2.5, _ratios("one_thread", SHORT | EXACT, NAIVE)),
    Promise("torchsde, float32", "≥", 3, _ratios("one_thread", SHORT | FAST, "torchsde")),
    Promise("torchsde, float64", "≥", 4.5, _ratios("one_thread", SHORT | EXACT, "torchsde")),
    Promise("torchsde, 1,000 steps", "≥", 10, _ratios("one_thread", {"steps": 1_000}, "torchsde")),
    Promise(
        "better of diffrax and JAX",
        "≥",
        1.3,
        _ratios("one_thread", SHORT, "diffrax", "JAX scan", best=True),
    ),
    Promise("naive loop, all cores, float32", "≥", 2, _ratios("all_cores", WIDE | FAST, NAIVE)),
    Promise("naive loop, all cores, float64", "≥", 5, _ratios("all_cores", WIDE | EXACT, NAIVE)),
    Promise("ours over the loop by hand", "≤", 1.1, _overhead),
    Promise("cost a path, most over least from 10³ to 10⁶", "≤", 1.25, _flatness),
    Promise("ten seeds over one, 10³ paths each", "≤", 2, _ten_seeds),
    Promise("memory over torchsde's", "≤", 0.2, _memory),
    Promise("Sobol with a bridge, linear-quadratic, gain at equal time", "≥", 500, _gain(SOBOL)),
    Promise("control variate, linear-quadratic, gain at equal time", "≥", 250, _gain(CONTROL)),
    Promise(
        "better of the two, double well and non-linear policy",
        "≥",
        30,
        _gain(SOBOL, CONTROL, of=("double well", "non-linear")),
    ),
)
