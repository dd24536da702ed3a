"""One iteration of DDPO on Stable Diffusion beside TRL's `DDPOTrainer`, in the same work."""
