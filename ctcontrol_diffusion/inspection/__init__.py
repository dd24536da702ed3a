"""What a model is worth: samplers × steps × prompts, each measured on images of the same noise."""

from ctcontrol_diffusion.inspection._distance import Features as Features
from ctcontrol_diffusion.inspection._distance import RealImages as RealImages
from ctcontrol_diffusion.inspection._diversity import diversity as diversity
from ctcontrol_diffusion.inspection._drift import Drift as Drift
from ctcontrol_diffusion.inspection._drift import drifts as drifts
from ctcontrol_diffusion.inspection._inspector import SEED as SEED
from ctcontrol_diffusion.inspection._inspector import Inspector as Inspector
from ctcontrol_diffusion.inspection._plan import Cell as Cell
from ctcontrol_diffusion.inspection._plan import Plan as Plan
from ctcontrol_diffusion.inspection._row import Progress as Progress
from ctcontrol_diffusion.inspection._row import Row as Row
from ctcontrol_diffusion.inspection._samples import Samples as Samples
from ctcontrol_diffusion.inspection._statistics import STATISTICS as STATISTICS
from ctcontrol_diffusion.inspection._statistics import image_statistics as image_statistics
