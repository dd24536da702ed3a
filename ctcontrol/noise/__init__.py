"""Where the increments of Brownian motion come from."""

from ctcontrol.noise._balanced import Antithetic as Antithetic
from ctcontrol.noise._balanced import MomentMatched as MomentMatched
from ctcontrol.noise._base import TILE as TILE
from ctcontrol.noise._base import NoiseSource as NoiseSource
from ctcontrol.noise._base import NoiseStream as NoiseStream
from ctcontrol.noise._base import Scaler as Scaler
from ctcontrol.noise._base import SeededNoise as SeededNoise
from ctcontrol.noise._base import Tile as Tile
from ctcontrol.noise._base import seed_of as seed_of
from ctcontrol.noise._coarsened import Coarsened as Coarsened
from ctcontrol.noise._path import BrownianPath as BrownianPath
from ctcontrol.noise._sobol import Sobol as Sobol
from ctcontrol.noise._white import WhiteNoise as WhiteNoise
from ctcontrol.noise._white import WhiteStream as WhiteStream
from ctcontrol.noise._white import ZeroNoise as ZeroNoise
