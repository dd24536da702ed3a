"""Rewards computed by a server, for those whose packages do not live with these."""

import base64
import http.client
import io
import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ctcontrol import CtcontrolError, check_positive
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards

_TRANSIENT = (408, 425, 429)


class ServerError(RuntimeError):
    """A reward server failed in a way that may pass."""


@dataclass(frozen=True)
class RemoteReward:
    """Rewards by HTTP: one POST a batch, with JSON both ways. Not differentiable.

    Sent is `{"images": [PNG in base64, …], "prompts": [text, …], "metadata": {name: [entry, …]}}`,
    each list with one entry an image. Expected is `{"rewards": [number, …], "info": {name: [entry,
    …]}}`, `info` being optional. One attempt; `load_reward` wraps it in :class:`Retried`.

    Attributes:
        url: http:// or https://. Redirects are followed, proxies taken from the environment.
        timeout: seconds until a silent server counts as failed, > 0.

    Raises:
        CtcontrolError: for another scheme or a bad timeout; when called, for metadata that JSON
            cannot hold and when the server refuses the request (a status of 4xx other than 408, 425
            and 429), all of which no repetition mends.
        ServerError: when called, for any other failure: no connection, no answer in time, a status
            of 5xx, an answer that is not of this form or has another number of rewards.
    """

    url: str
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise CtcontrolError(f"a reward server needs an http:// address, got {self.url!r}")
        check_positive("timeout of a reward server", self.timeout)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        answer = self._ask({"images": _pngs(images), "prompts": prompts, "metadata": metadata})
        rewards = answer.get("rewards") if isinstance(answer, dict) else None
        if not isinstance(rewards, list) or not all(map(_is_number, rewards)):
            raise ServerError(f'{self.url} must answer {{"rewards": [numbers]}}')
        if len(rewards) != len(prompts):
            raise ServerError(
                f"{self.url} gave {len(rewards)} rewards for {len(prompts)} images; one an image "
                "is needed"
            )
        info = answer.get("info") or {}
        if not isinstance(info, dict):
            raise ServerError(f"{self.url} must answer info as names with lists")
        return torch.tensor(rewards, dtype=torch.float32, device=images.device), info

    def _ask(self, question: dict[str, Any]) -> Any:
        try:
            body = json.dumps(question, default=_listed).encode()
        except (TypeError, ValueError) as error:
            raise CtcontrolError(
                f"the metadata for {self.url} cannot be written as JSON: {error}"
            ) from error
        kind = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url, body, kind)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(300).decode(errors="replace").strip() or error.reason
            message = f"{self.url} answered with status {error.code}: {' '.join(text.split())}"
            if 400 <= error.code < 500 and error.code not in _TRANSIENT:
                raise CtcontrolError(f"{message}; correct the address or the server") from error
            raise ServerError(message) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise ServerError(f"{self.url} does not answer: {reason}") from error
        except ValueError as error:
            raise ServerError(f"{self.url} did not answer with JSON: {error}") from error


def _pngs(images: Images) -> list[str]:
    pixels = images.detach().mul(255).round_().clamp_(0, 255).to(torch.uint8)
    arrays = pixels.movedim(1, -1).contiguous().cpu().numpy()
    texts: list[str] = []
    for array in arrays:
        file = io.BytesIO()
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(file, "PNG")
        texts.append(base64.b64encode(file.getvalue()).decode())
    return texts


def _listed(value: object) -> object:
    if isinstance(value, Tensor):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
