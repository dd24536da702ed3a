"""Fine-tuning of diffusion models by continuous-time control: the application of `ctcontrol`."""
