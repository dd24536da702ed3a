"""What programs import, sooner or later, by the process they are forked from."""

from importlib import import_module

IMPORTED = (
    "accelerate",
    "ctcontrol_diffusion.build",
    "ctcontrol_diffusion.run.process",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d",
    "diffusers.models.unets.unet_2d_condition",
    "peft",
    "sklearn.datasets",
    "torch._dynamo",  # by the first optimizer
    "torch.distributed.algorithms.join",
    "torch.utils.tensorboard",
    "transformers.models.clip.modeling_clip",
)
"""What is missing here costs time and nothing else."""

for _name in IMPORTED:
    import_module(_name)
