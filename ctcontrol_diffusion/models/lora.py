"""Low-rank adapters by peft, and the switch that turns them off: the pretrained model again."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from torch import nn

from ctcontrol import CtcontrolError

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of attention, where adapters of text-to-image models are put."""
ATTENTION_AND_RESIDUALS = (*ATTENTION, "conv1", "conv2")
"""With the convolutions of residual blocks, nearly all weights of a pixel model."""


class Adapters:
    """Trainable factors beside the frozen weights of a network: W + (alpha/rank) BA.

    B = 0 at first, so that the network is the same to the last bit. The factors are float32
    whatever the network's own precision.

    Args:
        network: changed in place; all of its own weights are frozen.
        rank: of the factors.
        generator: draws A.
        targets: ends of the names of the layers that get factors.
        alpha: numerator of the scale; `rank` if None, so that factors apply as they are.

    Raises:
        CtcontrolError: the network has none of these layers.
    """

    def __init__(
        self,
        network: nn.Module,
        rank: int,
        generator: torch.Generator,
        *,
        targets: Sequence[str] = ATTENTION,
        alpha: float | None = None,
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        settings = LoraConfig(
            r=rank,
            lora_alpha=rank if alpha is None else alpha,  # pyright: ignore[reportArgumentType]  # peft divides it: 0.5 will do
            target_modules=list(targets),
        )
        network.requires_grad_(False)
        add: Any = getattr(network, "add_adapter", None)  # the loaders of diffusers know these
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                if add is None:
                    inject_adapter_in_model(settings, network)
                else:
                    add(settings)
        except ValueError as error:
            raise CtcontrolError(
                f"{type(network).__name__} has none of the layers {', '.join(targets)}; train all "
                "its weights instead"
            ) from error
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("lora_" in name)
        cast_training_params(network, torch.float32)
        self._layers = [m for m in network.modules() if isinstance(m, BaseTunerLayer)]
        self._lock = threading.RLock()

    @contextmanager
    def on(self) -> Generator[None]:
        """The network as it is trained; nobody turns the factors off meanwhile."""
        with self._lock:
            yield

    @contextmanager
    def off(self) -> Generator[None]:
        """The pretrained network; whoever wants the trained one waits."""
        with self._lock:
            for layer in self._layers:
                layer.enable_adapters(False)
            try:
                yield
            finally:
                for layer in self._layers:
                    layer.enable_adapters(True)
