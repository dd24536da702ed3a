"""An adapter of another program as a folder that today's pipelines load."""

from collections.abc import Sequence
from pathlib import Path

from ctcontrol_diffusion.build import device_called
from ctcontrol_diffusion.publish import publish_factors, read_factors
from ctcontrol_diffusion.run.files import whole_folder, write_atomically
from ctcontrol_diffusion.run.model_card import CARD, front_matter, usage


def convert_adapter(
    source: Path, out: Path, model: str, prompts: Sequence[str], device: str = "cpu"
) -> str:
    """Write the adapter in `source` into the new folder `out`, which appears complete or not at
    all; returns a sentence saying what was read and compared.

    Args:
        source: as `read_factors` takes it.
        out: must not exist; its parent must.
        model: folder or hub id of the pipeline that the adapter is for.
        prompts: of the images compared.
        device: to draw them on.

    Raises:
        CtcontrolError: there is no adapter, or none that fits the model.
        Mismatch: what was written does not do what was read; nothing is left.
        OSError: `out` cannot be written.
    """
    where = device_called(device)
    factors = read_factors(source)
    with whole_folder(out) as made:
        published = publish_factors(factors, source, model, made, prompts, where)
        lines = [
            *front_matter(published),
            f"# {out.name}",
            "",
            f"LoRA adapters of `{model}`, converted from `{source.name}`; alpha/rank is multiplied "
            "in.",
            "",
            *usage(published, out.name),
        ]
        write_atomically(made / CARD, "\n".join(lines))
    ranks = sorted({factor.rank for factor in factors.values()})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} … {ranks[-1]}"
    return f"{len(factors)} adapters of {rank} from {source}: {published.sentence()}; {out}"
