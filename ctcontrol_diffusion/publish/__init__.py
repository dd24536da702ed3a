"""Trained networks as files that other programs load, each loaded again before that is said."""

from ctcontrol_diffusion.publish._compare import TOLERANCE as TOLERANCE
from ctcontrol_diffusion.publish._compare import Mismatch as Mismatch
from ctcontrol_diffusion.publish._compare import Published as Published
from ctcontrol_diffusion.publish._compare import compared as compared
from ctcontrol_diffusion.publish._factors import Factors as Factors
from ctcontrol_diffusion.publish._factors import factors_of as factors_of
from ctcontrol_diffusion.publish._sources import read_factors as read_factors
from ctcontrol_diffusion.publish._write import publish_factors as publish_factors
from ctcontrol_diffusion.publish._write import publish_lora as publish_lora
from ctcontrol_diffusion.publish._write import publish_pipeline as publish_pipeline
