"""Control problems as Gymnasium environments, for the algorithms of other libraries.

Needs the extra `gym`: `pip install 'ctcontrol[gym]'`. The dynamics are those of `ctcontrol`:
`Episodes` on tensors, which both faces wrap and which needs no Gymnasium.
"""

from ctcontrol.gymnasium._env import ControlEnv as ControlEnv
from ctcontrol.gymnasium._env import VectorControlEnv as VectorControlEnv
