"""Numbers and records as people read them."""

from ctcontrol_diffusion.run.metrics import Record


def pair(value: float | None, stderr: float | None, digits: int = 2) -> str:
    """`−0.713 ± 0.021`, with as many digits as the error has meaningful ones, `digits` of them."""
    if value is None:
        return "–"
    if stderr is None or not stderr > 0:
        return f"{value:.4g}".replace("-", "−")
    places = max(0, min(6, digits - 1 - exponent(stderr)))
    return f"{value:.{places}f} ± {stderr:.{places}f}".replace("-", "−")


def exponent(value: float) -> int:
    """k of value = m · 10^k with 1 ≤ |m| < 10."""
    return int(f"{value:e}".partition("e")[2])


def record_line(record: Record, unit: str, has_kl: bool) -> str:
    """The numbers of an iteration in one line."""
    reward, kl = record["reward"], record["divergence"]
    parts = [f"reward {pair(reward['mean'], reward['stderr'])}"]
    if has_kl:
        parts.append(f"KL {pair(kl['mean'], kl['stderr'])}")
    if record["clip_fraction"] is not None:
        parts.append(f"clip {100 * record['clip_fraction']:.1f} %")
    parts.append(f"{record['timing']['images_per_second']:.0f} {unit}/s")
    return "   ".join(parts)


def clock(seconds: float) -> str:
    """`1:05` or `2:03:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


NAMES = {"kl": "KL", "frechet": "Fréchet distance"}


def plain(name: str) -> str:
    """A field's name as words: `value_loss` is `value loss`, `ideal_kl` is `ideal KL`.

    The names of rewards that hold paths or modules stay as they are.
    """
    if any(sign in name for sign in ":/=,"):
        return name
    return " ".join(NAMES.get(word, word) for word in name.split("_"))
