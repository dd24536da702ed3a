"""The work that both do, told by one to another as JSON; knows neither of them."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    """An iteration: `images` drawn in `steps` steps, then one update of LoRA with all of them.

    Attributes:
        model: folder of a Stable Diffusion pipeline.
        images: of an iteration, drawn together.
        steps: of the sampler, all of them trained.
        rank: of the factors beside attention.
        guidance: weight of classifier-free guidance, in sampling and in the loss.
        at_once: images through the network together in updates; None if all that a side can.
        iterations: timed, after one that is not.
    """

    model: str
    images: int = 8
    steps: int = 20
    rank: int = 4
    guidance: float = 5.0
    at_once: int | None = None
    iterations: int = 5

    @classmethod
    def told(cls) -> "Work":
        """What stood on the command line."""
        return cls(**json.loads(sys.argv[1]))

    def words(self) -> str:
        """The inverse of `told`."""
        return json.dumps(asdict(self))


def measure(work: Work, iterate: Callable[[], None], network: Any, versions: list[str]) -> None:
    """Print the seconds of CPU of each iteration, and what went through the network in one.

    Args:
        work: how many iterations.
        iterate: does one.
        network: rows through its forward are counted, those of both halves of guidance.
        versions: names of packages.
    """
    from importlib.metadata import version

    import torch

    rows = {"drawn": 0, "trained": 0}

    def count(module: object, arguments: Any, words: Any) -> None:
        image = arguments[0] if arguments else words["sample"]
        rows["trained" if torch.is_grad_enabled() else "drawn"] += len(image)

    before = [p.detach().clone() for p in network.parameters() if p.requires_grad]
    hook = network.register_forward_pre_hook(count, with_kwargs=True)
    iterate()
    hook.remove()
    seconds: list[float] = []
    for _ in range(work.iterations):
        began = time.process_time()
        iterate()
        seconds.append(time.process_time() - began)
    after = [p for p in network.parameters() if p.requires_grad]
    moved = max(float((p - q).abs().max()) for p, q in zip(after, before, strict=True))
    found = {
        "seconds": seconds,
        "rows": rows,
        "trainable": sum(p.numel() for p in after),
        "moved": moved,
        "versions": {name: version(name) for name in versions},
    }
    print(json.dumps(found))
