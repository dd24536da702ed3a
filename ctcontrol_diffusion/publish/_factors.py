"""Low-rank factors with their scale multiplied in: W becomes W + BA, whoever reads them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError


@dataclass(frozen=True, eq=False)
class Factor:
    """The change BA of one weight.

    Attributes:
        down: A, (rank, inputs), or (rank, inputs, height, width) of a convolution.
        up: B, (outputs, rank), or (outputs, rank, 1, 1); alpha/rank is multiplied in.
    """

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """Of the change, at most."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return (self.up.shape[0], *self.down.shape[1:])

    def change(self) -> Tensor:
        """BA in float64, shaped like the weight."""
        product = self.up.double().flatten(1) @ self.down.double().flatten(1)
        return product.reshape(self.shape)

    def scaled(self, by: float) -> "Factor":
        """The same with B multiplied; the smaller matrix mostly, and 0 before training."""
        return Factor(self.down, by * self.up)

    def padded(self, rank: int) -> "Factor":
        """The same change by factors of a higher rank."""
        more = rank - self.rank
        down = torch.cat([self.down, self.down.new_zeros(more, *self.down.shape[1:])])
        up = torch.cat([self.up, self.up.new_zeros(len(self.up), more, *self.up.shape[2:])], 1)
        return Factor(down, up)


Factors = Mapping[str, Factor]
"""Name of a module of the network -> the change of its weight."""


def factors_of(network: nn.Module) -> dict[str, Factor]:
    """What the adapters in a network do, on the CPU in float32; empty where it has none.

    Raises:
        CtcontrolError: a layer has an adapter of another kind than LoRA.
    """
    from peft.tuners.lora.layer import Conv2d, Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, Factor] = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        if not isinstance(layer, Linear | Conv2d) or len(layer.lora_A) != 1:
            raise CtcontrolError(
                f"{name} has {type(layer).__name__} adapters {sorted(layer.adapter_layer_names)}; "
                "only one LoRA adapter at a linear layer or a convolution can be written"
            )
        (adapter,) = layer.lora_A
        down, up = (_plain(side[adapter].weight) for side in (layer.lora_A, layer.lora_B))
        found[name] = Factor(down, up).scaled(layer.scaling[adapter])
    return found


def _plain(weight: Any) -> Tensor:
    return weight.detach().to("cpu", torch.float32, copy=True).contiguous()


def of_one_rank(factors: Factors) -> dict[str, Factor]:
    """The same changes, all by factors of the highest rank: not every reader takes several."""
    rank = max(factor.rank for factor in factors.values())
    return {
        name: factor if factor.rank == rank else factor.padded(rank)
        for name, factor in factors.items()
    }


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """The state of the network without adapters that does the same: W + BA for W; on the CPU."""
    state = {
        name.replace(".base_layer.", "."): value.detach().to("cpu", copy=True)
        for name, value in network.state_dict().items()
        if ".lora_" not in name
    }
    return changed(state, factors_of(network))


def changed(state: Mapping[str, Tensor], factors: Factors) -> dict[str, Tensor]:
    """Weights W + BA of some weights W, in their own precision."""
    weights = {f"{name}.weight": factor.change() for name, factor in factors.items()}
    return dict(state) | {
        name: (state[name].double() + change.to(state[name].device)).to(state[name].dtype)
        for name, change in weights.items()
    }


def check_fit(factors: Factors, network: nn.Module, source: object, model: str) -> None:
    """Whether every factor belongs to a weight of `network`.

    Raises:
        CtcontrolError: names the first that does not; there is none; a number is not finite.
    """
    if not factors:
        raise CtcontrolError(f"{source} holds no low-rank factors; give the folder of an adapter")
    weights = dict(network.named_parameters())
    for name, factor in factors.items():
        weight = weights.get(f"{name}.weight")
        if weight is None:
            near = Counter(key.split(".")[0] for key in weights).most_common(3)
            raise CtcontrolError(
                f"{source} changes {name}, which the {type(network).__name__} of {model} does not "
                f"have (it begins with {', '.join(part for part, _ in near)}, …); give --model the "
                "model that the adapter was trained on"
            )
        if factor.shape != tuple(weight.shape):
            raise CtcontrolError(
                f"{source} changes {name} by a {factor.shape} matrix, and that of {model} is "
                f"{tuple(weight.shape)}; give --model the model that the adapter was trained on"
            )
        if not (factor.up.isfinite().all() and factor.down.isfinite().all()):
            raise CtcontrolError(f"{source} holds NaN or infinite numbers in {name}; train it anew")
