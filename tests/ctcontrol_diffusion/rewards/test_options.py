"""Options of rewards in one word, and every way to get them wrong."""

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import load_reward, model_reward_names

BRIGHT = torch.full((2, 3, 4, 4), 0.5)


def test_options_reach_the_reward() -> None:
    plain, scaled = (
        load_reward(name)(BRIGHT, ["", ""], {})[0]
        for name in ("jpeg-compressibility", "jpeg-compressibility, scale=500")
    )
    assert torch.allclose(plain, 500 * scaled)
    flat = load_reward("alignment,clip=none", classifier=lambda x: x.mean((2, 3)))
    assert flat.function.clip is None  # type: ignore[attr-defined]  # ours
    wide = load_reward("alignment,clip=3,rows=7", classifier=lambda x: x.mean((2, 3))).function
    assert (wide.clip, wide.rows) == (3.0, 7)  # type: ignore[attr-defined]  # ours


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "jpeg-compressibility,sclae=2",
            "no option 'sclae'; did you mean 'scale'. its options are",
        ),
        ("brightness,scale=2", "has no option 'scale'; its options are none"),
        ("jpeg-compressibility,scale=x", "scale of the .* must be a number, got 'x'"),
        ("jpeg-compressibility,scale=-1", "scale of the JPEG reward must be .*-1"),
        ("jpeg-compressibility,scale", "the form name,option=value,… but has the part 'scale'"),
        ("jpeg-compressibility,scale=", "has the part 'scale='"),
        ("jpeg-compressibility,scale=1,scale=2", "gives the option 'scale' twice"),
        ("classifier,target=3", "needs the option weights, as in classifier,weights=…"),
        (
            "classifier,weights=x,target=3,rows=many",
            "rows of .* must be a whole number, got 'many'",
        ),
        ("classifier,weights=x,target=3,measure=odds", "must be log-probability or logit, got"),
        ("clipscore", "did you mean 'clip-score'"),
    ],
)
def test_wrong_options_are_refused(name: str, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message) as caught:
        load_reward(name)
    assert "\n" not in str(caught.value)


def test_every_reward_with_weights_names_what_it_lacks() -> None:
    """Offline and without paths each says which hub model or option it needs."""
    for name in model_reward_names():
        with pytest.raises(CtcontrolError, match=r"needs"):
            load_reward(name)
