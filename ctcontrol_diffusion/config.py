"""Every choice of a run as frozen dataclasses; the docstrings of fields are the help texts.

Nothing here has a behaviour. `build` turns a config into objects, `presets` holds the named ones.
"""

from dataclasses import dataclass, field
from typing import Literal

Design = Literal["perceptron", "convolution", "tower", "features"]
Sampler = Literal["ddim", "euler", "exponential", "flow-sde"]


@dataclass(frozen=True)
class Digits:
    """The embedded digits model: prompts are digits, images are 8 × 8."""

    reward: str = "alignment"
    """alignment | jpeg-compressibility | jpeg-incompressibility | brightness | symmetry, or your
    own as module:function."""
    kl_weight: float = 0.18
    """κ, reward lost per nat of path KL to the pretrained model."""
    eta: float = 1.0
    """Noise of the training sampler, DDIM(η): 1 is ancestral sampling, > 0."""
    floor: float = 0.02
    """Diffusion time at which sampling stops, in (0, 1). The pretrained model removes the noise
    left there in one step that is not trained: steps with less noise would spend KL on nothing."""
    trained: Literal["conditioning", "all"] = "all"
    """Which weights learn: all, or the class and time embeddings with their projections (how the
    prompt acts), which takes a learning rate about three times as high."""
    held_out: tuple[str, ...] = ()
    """Digits that training never draws, evaluated apart as unseen prompts."""
    denoiser: str | None = None
    """Path of a denoiser.safetensors made by `pretrain digits`; the embedded weights if none."""


@dataclass(frozen=True)
class Cifar10:
    """Any UNet2DModel of diffusers: small images, mostly without prompts."""

    model: str = "google/ddpm-cifar10-32"
    """Folder of a diffusers pipeline with a UNet2DModel (DDPMPipeline), or its id on the hub."""
    reward: str = "jpeg-compressibility"
    """jpeg-compressibility | jpeg-incompressibility | brightness | symmetry, classifier with
    options (classifier,weights=FILE,target=3), or your own as module:function."""
    kl_weight: float = 0.01
    """κ, reward lost per nat of path KL to the pretrained model; with 0, rollouts do not ask that
    model, which saves a network evaluation a step, and KL is measured in evaluations alone."""
    sampler: Sampler = "ddim"
    """Training sampler. ddim: DDIM(η). euler: Euler-Maruyama on the reverse SDE. exponential: exact
    for Gaussian data of variance data-variance. flow-sde: for flow-matching models."""
    eta: float = 1.0
    """Share of the noise in the samplers ddim and flow-sde, in (0, 1]: 1 is ancestral."""
    data_variance: float = 0.25
    """Mean variance of a pixel of the data in [−1, 1]; that of CIFAR-10 is 0.25."""
    floor: float = 0.02
    """Diffusion time at which sampling stops, in (0, 1). The pretrained model removes the noise
    left there in one step that is not trained."""
    trained: Literal["all", "lora"] = "all"
    """Which weights learn: all, or low-rank factors beside attention and convolutions."""
    lora_rank: int = 8
    """Rank of the factors, if trained is lora."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; trajectories and weights are float32 all the same."""
    schedulers: tuple[str, ...] = ()
    """Schedulers of diffusers evaluated besides our SDE and ODE: ddim, ddpm, dpm++2m, dpm++2m-sde,
    euler, euler-ancestral, heun, unipc, flow-euler, or the name of a class."""
    features: str | None = None
    """Features for a Fréchet distance: a file of CIFAR ResNet weights, or module:function of
    images in [0, 1]; no distance if none."""
    real: str | None = None
    """Real images to compare with: an .npz file, or a folder of them."""


@dataclass(frozen=True)
class StableDiffusion:
    """Text-to-image models of latents from diffusers: Stable Diffusion 1 and 2, SDXL."""

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Folder of a diffusers pipeline with a UNet2DConditionModel, or its id on the hub."""
    prompts: str = "animals"
    """What is drawn: animals, activities, two sources as A*B (animals*activities), the path of a
    .txt, .csv, .tsv, .json or .jsonl list, or hub:OWNER/NAME/FILE for such a list on the hub."""
    held_out: float = 0.0
    """Share of the prompts that is never trained on, to evaluate with; in [0, 1)."""
    images_per_prompt: int = 8
    """Images of a prompt in a rollout, which are standardised together by ddpo."""
    negative_prompt: str = ""
    """What guidance leads away from; an empty prompt if none."""
    guidance: float = 5.0
    """Weight w of classifier-free guidance, ≥ 1; 1 asks the prompted network alone. Sampling,
    likelihoods and KL are all of the guided model."""
    guidance_gradient: Literal["both", "prompted"] = "both"
    """Whether gradients go through both halves of guidance, or the prompted one alone, which keeps
    half of the activations. Likelihoods are the same."""
    reward: str = "jpeg-compressibility"
    """A reward of images and their prompts: jpeg-compressibility, image-reward, aesthetic,
    pickscore, hps-v2, clip-score, …, a sum:, an http:// address, or your own as module:function."""
    kl_weight: float = 0.01
    """κ, reward lost per nat of path KL to the pretrained model; with 0, rollouts do not ask that
    model, which saves a network evaluation a step, and KL is measured in evaluations alone."""
    sampler: Sampler = "ddim"
    """Training sampler. ddim: DDIM(η). euler: Euler-Maruyama on the reverse SDE. exponential: exact
    for Gaussian data of variance data-variance. flow-sde: for flow-matching models."""
    eta: float = 1.0
    """Share of the noise in the samplers ddim and flow-sde, in (0, 1]: 1 is ancestral."""
    data_variance: float = 1.0
    """Mean variance of a coordinate of a clean latent; pipelines scale it to about 1."""
    floor: float = 0.02
    """Diffusion time at which sampling stops, in (0, 1). The pretrained model removes the noise
    left there in one step that is not trained."""
    resolution: int | None = None
    """Side of an image in pixels; the model's own if none."""
    trained: Literal["lora", "all"] = "lora"
    """Which weights learn: low-rank factors beside attention, with the pretrained model being the
    same network without them, or all, which needs a second copy."""
    lora_rank: int = 4
    """Rank of the factors, if trained is lora."""
    lora_alpha: float | None = None
    """Factors are scaled by alpha/rank; alpha is the rank if none."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """What networks compute in; trajectories and trained weights are float32 all the same."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass: less memory for more time."""
    schedulers: tuple[str, ...] = ()
    """Schedulers of diffusers evaluated besides our SDE and ODE: ddim, ddpm, dpm++2m, dpm++2m-sde,
    euler, euler-ancestral, heun, unipc, flow-euler, or the name of a class."""
    features: str | None = None
    """Features for a Fréchet distance: module:function of images in [0, 1]; no distance if none."""
    real: str | None = None
    """Real images to compare with: an .npz file, or a folder of them."""


@dataclass(frozen=True)
class LQ:
    """A linear-quadratic regulator (double integrator) whose optimum is known exactly."""

    volatility: float = 0.5
    """Standard deviation of the disturbance per square root of a unit of time."""
    control_cost: float = 0.5
    """Reward lost per squared unit of control and unit of time."""
    horizon: float = 2.0
    """Length of an episode, in units of time."""


@dataclass(frozen=True)
class Rollout:
    """How trajectories are made."""

    steps: int = 10
    """Steps of the training sampler."""
    batch: int = 240
    """Trajectories an iteration (images, for image models)."""
    exploration: float | Literal["absorbed"] = "absorbed"
    """Standard deviation of the action, in units of the action; `absorbed` lets the action carry
    exactly the noise of the sampler, whatever the number of steps."""


@dataclass(frozen=True)
class Update:
    """How the policy follows its advantages."""

    learning_rate: float = 2e-4
    """Step of Adam on the policy's weights, > 0."""
    advantage: Literal[
        "generalized", "noise-aware", "temporal-difference", "closed-form", "monte-carlo"
    ] = "generalized"
    """Estimator of the advantage rate (algorithm ctrl). noise-aware and monte-carlo are right
    whatever the critic's error, the first with less variance; temporal-difference and
    closed-form follow that error; generalized is in between."""
    advantage_decay: float = 2.7
    """How fast generalized advantages forget what comes later, per unit of time: 0 is
    monte-carlo, infinity is temporal-difference."""
    standardize: Literal["auto", "per-prompt", "none"] = "auto"
    """per-prompt: centre advantages and divide them by their spread among the images of a prompt.
    The penalty is not divided: κ weighs more the more rewards vary. auto: for ddpo alone."""
    clip: float = 0.2
    """ε: ratios outside 1 ± ε earn nothing more."""
    epochs: int = 1
    """Passes over a rollout."""
    share: float = 0.35
    """Share of the steps used in a pass, drawn at random, in (0, 1]."""
    credited: float = 0.9
    """Share of a path whose actions earn advantages, in (0, 1]; steps after it pay their penalty
    alone (ctrl, ddpo): the last ones of a denoising decide little and make much of the noise."""
    minibatch: int = 168
    """Steps of trajectories an update of the weights."""
    clip_norm: float = 1.0
    """Bound on the norm of the gradient."""
    warmup: int = 2
    """Iterations over which the learning rate rises from 0."""
    decay: Literal["cosine", "none"] = "cosine"
    """How the learning rate falls until the last iteration: to 5 % along a cosine, or not."""
    averaged: float = 0.3
    """Share of the updates, the last ones, over which the weights are averaged at the end, in
    [0, 1): the mean has less of the noise of gradients than the last of them; 0 for none. A run
    that stops early, and its best checkpoint, are without."""
    log_ratio_scale: float = 1.0
    """Multiplies the log likelihood ratio, which sums over coordinates; 1 is the true ratio. It
    changes what is clipped, not the gradient of the first update."""


@dataclass(frozen=True)
class Critic:
    """The value network and its fit (algorithms ctrl and pathwise)."""

    design: Literal["auto"] | Design = "auto"
    """What is learned (image models). perceptron: of all numbers of a state. convolution: a small
    CNN on the states. tower: a copy of the reward's network, on the decoded state; a CNN on it
    where the reward is no network. features: a head on the middle block of the policy's UNet, as
    the rollout computed it. auto: perceptron for digits, convolution for others."""
    first: Literal["denoised", "original", "none"] = "denoised"
    """What the known term, the reward as it is, looks at: the denoised state, the state itself, or
    nothing (no reward but at the end; takes the link const)."""
    second: Literal["original", "denoised"] = "original"
    """What the learned term looks at: the state itself, or the denoised state."""
    tower_share: float = 0.3
    """Share of the layers of a reward's copy that learn, its last ones, in (0, 1] (tower)."""
    link: Literal["cos-sin", "linear", "const", "cos-one-minus-cos", "variance"] = "cos-sin"
    """Coefficients of the known and of the learned term as functions of time."""
    fit: Literal["noise-aware", "monte-carlo", "temporal-difference"] = "noise-aware"
    """Target of the regression."""
    gradient: Literal["approximate", "full"] = "approximate"
    """∇V of noise-aware and closed-form advantages: through the network inside the denoised
    image, or not."""
    derivative: Literal["reverse", "forward"] = "reverse"
    """How slopes of V in a direction are computed (not pathwise): reverse, by backpropagation; or
    forward, which keeps nothing of what lies between and takes less memory. Same numbers."""
    learning_rate: float = 1e-3
    """Step of Adam on the residual's weights, > 0."""
    decay: Literal["cosine", "none"] = "cosine"
    """How the learning rate falls until the last iteration: to 5 % along a cosine, or not."""
    epochs: int = 2
    """Passes over a rollout."""
    minibatch: int = 480
    """Steps of trajectories an update of the weights."""
    width: int = 128
    """Hidden units of the learned term (not of a tower)."""
    policy_waits: int = 2
    """Iterations at the start in which only the value learns: its pretraining, by rollout.batch
    images of the pretrained model each. Counted, reported and resumed like all others."""


@dataclass(frozen=True)
class Evaluation:
    """What is measured before and after, and what is watched on the way."""

    steps: tuple[int, ...] = (10, 25, 50, 100)
    """Step counts of the samplers compared."""
    images: int = 500
    """Samples for every sampler and step count."""
    grid: int = 8
    """Columns of the sample grids."""
    rewards: tuple[str, ...] = ()
    """Held-out rewards, named as problem.reward is: evaluated and watched, never trained on."""
    watch_every: int = 10
    """Iterations between two looks at a few images of fixed noise: reward, held-out rewards, and
    statistics of the images, which warn when they drift; 0 for none."""
    watch_images: int = 64
    """Images of each look, at the number of steps of the training."""
    stop_on: str | None = None
    """One of evaluation.rewards: stop when it no longer rises, and keep the best checkpoint; never
    if none is given."""
    patience: int = 5
    """Looks without a new best after which stop-on stops."""


@dataclass(frozen=True)
class Config:
    """A run."""

    problem: Digits | Cifar10 | StableDiffusion | LQ = field(default_factory=Digits)
    """What is improved."""
    algorithm: Literal["ctrl", "ddpo", "pathwise"] = "ctrl"
    """ctrl: clipped surrogate of advantage rates. ddpo: Monte-Carlo returns standardised per
    prompt, no value. pathwise: differentiate the value along the action."""
    iterations: int = 90
    """Rollouts with their updates."""
    seed: int = 0
    """Seed of everything that is random."""
    threads: int = 2
    """Threads of the CPU, for each process; results are reproducible bit for bit only at the same
    number of threads and processes."""
    device: str = "cpu"
    """cpu, cuda or cuda:N. Of several processes each takes a GPU of its own with cuda."""
    micro_batch: int | None = None
    """Images through the network at once, in rollouts and updates alike; all there are if none. A
    minibatch adds up the gradients of its parts, so that memory is all that changes; the same
    number in both keeps the likelihood ratio at 1 before the first update in low precision too."""
    checkpoint_every: int = 5
    """Iterations between two checkpoints."""
    trackers: tuple[str, ...] = ()
    """Where metrics and images go besides metrics.jsonl and TensorBoard: wandb, mlflow, comet_ml,
    swanlab, aim, clearml, dvclive, trackio, or your own as module:Class."""
    rollout: Rollout = field(default_factory=Rollout)
    update: Update = field(default_factory=Update)
    critic: Critic = field(default_factory=Critic)
    evaluation: Evaluation = field(default_factory=Evaluation)
