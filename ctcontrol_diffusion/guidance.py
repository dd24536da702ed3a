"""Scores of prompted networks under classifier-free guidance."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol import Context, Scalar, State
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.score import NetworkScore, Prediction

Conditions = Mapping[str, Tensor]
"""What a network is told besides time, one row an image: `encoder_hidden_states` (n, tokens, width)
and, for SDXL, `text_embeds` (n, width) and `time_ids` (n, 6)."""


class PromptTable:
    """What networks are told of every prompt, encoded once: the context is a row of this table.

    Rows keep their numbers; prompts met later are encoded then and added.

    Args:
        encode: texts -> conditions, one row each.
        texts: the first rows; no text twice.
        nothing: conditions of one row, those of the unprompted half of guidance.
        besides: conditions that are the same whatever the prompt, one row.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], Conditions],
        texts: Sequence[str],
        nothing: Conditions,
        besides: Conditions | None = None,
    ) -> None:
        self._encode = encode
        self._rows = {text: row for row, text in enumerate(texts)}
        self._encoded = dict(encode(list(texts)))
        self._nothing = dict(nothing)
        self._besides = dict(besides or {})

    @property
    def texts(self) -> list[str]:
        """All of them, by row."""
        return list(self._rows)

    def rows(self, texts: Sequence[str]) -> Tensor:
        """(n,) rows of texts, on the CPU."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            more = self._encode(new)
            self._encoded = {k: torch.cat([v, more[k]]) for k, v in self._encoded.items()}
            self._rows |= {text: len(self._rows) + k for k, text in enumerate(new)}
        return torch.tensor([self._rows[text] for text in texts])

    def texts_of(self, rows: Tensor) -> list[str]:
        """The texts of some rows."""
        texts = self.texts
        return [texts[row] for row in rows.tolist()]

    def told(self, rows: Tensor) -> Conditions:
        """Conditions of some rows."""
        return {k: v[rows] for k, v in self._encoded.items()} | self._same(len(rows))

    def told_nothing(self, count: int) -> Conditions:
        """Conditions of the unprompted half of guidance, `count` times."""
        empty = {k: v.expand(count, *v.shape[1:]) for k, v in self._nothing.items()}
        return empty | self._same(count)

    def _same(self, count: int) -> dict[str, Tensor]:
        return {k: v.expand(count, *v.shape[1:]) for k, v in self._besides.items()}


class GuidedScore(NetworkScore):
    """The score of p_s(x)^{1−w} p_s(x | prompt)^w, up to a constant (Ho & Salimans, 2207.12598).

    With o the output of the network it is that of o(∅) + w (o(prompt) − o(∅)): every
    parameterisation is affine in o. The same guided score is sampled from, trained, and compared
    with the pretrained model's, so that likelihood ratios and KL are those of the sampler.

    Args:
        network: a `UNet2DConditionModel`.
        schedule, prediction, compute, at_once, switch: as in `NetworkScore`.
        table: says what context, rows of it, means to the network.
        guidance: w; 1 asks the prompted half alone.
        through_both: whether gradients go through both halves, or the prompted one alone. The
            value is the same. With one half, activations of one half are kept, and what is learned
            is how a prompt acts, not what an empty one does.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: Prediction,
        table: PromptTable,
        *,
        guidance: float = 1.0,
        through_both: bool = True,
        at_once: int | None = None,
        compute: torch.dtype | None = None,
        switch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(
            network, schedule, prediction, compute=compute, at_once=at_once, switch=switch
        )
        self.table = table
        self.guidance = guidance
        self.through_both = through_both

    def predicted(self, time: Scalar, x: State, context: Context) -> Tensor:
        """What the guided network predicts; the context is rows of the table."""
        assert isinstance(context, Tensor)
        prompted = self.table.told(context)
        if self.guidance == 1:
            return self._told(time, x, prompted)
        empty = self.table.told_nothing(len(context))
        if self.through_both:
            both = {key: torch.cat([prompted[key], empty[key]]) for key in prompted}
            given, without = self._told(time.repeat(2), x.repeat(2, 1, 1, 1), both).chunk(2)
        else:
            given = self._told(time, x, prompted)
            with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
                without = self._told(time, x, empty)
        return without + self.guidance * (given - without)

    def _told(self, time: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        told = dict(conditions)
        words: dict[str, Any] = {"encoder_hidden_states": told.pop("encoder_hidden_states")}
        if told:
            words["added_cond_kwargs"] = told
        weights = next(self.network.parameters()).dtype
        if self.compute is None:  # else autocast decides
            words = _cast(words, weights)
        return self.asked(time, x, words)


def _cast(words: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {
        key: _cast(value, dtype) if isinstance(value, dict) else value.to(dtype)
        for key, value in words.items()
    }
