"""One row per implementation of every abstract type: what the contract tests are run on.

Adding an implementation means adding a row here; `test_every_implementation_has_a_row` of the
contract fails until it is there.
"""

from tests.tables._row import Row as Row
from tests.tables._row import kinds as kinds
from tests.tables._row import over as over
from tests.tables._row import row as row
from tests.tables.dynamics import GRID as GRID
from tests.tables.dynamics import NOISES as NOISES
from tests.tables.dynamics import POLICIES as POLICIES
from tests.tables.dynamics import SDES as SDES
from tests.tables.dynamics import VOLATILITIES as VOLATILITIES
from tests.tables.dynamics import plant as plant
from tests.tables.dynamics import schedule as schedule
from tests.tables.functions import LINKS as LINKS
from tests.tables.functions import REGULARIZERS as REGULARIZERS
from tests.tables.functions import REWARDS as REWARDS
from tests.tables.functions import VALUES as VALUES
from tests.tables.functions import Network as Network
from tests.tables.learning import ADVANTAGES as ADVANTAGES
from tests.tables.learning import ALGORITHMS as ALGORITHMS
from tests.tables.learning import CRITICS as CRITICS
from tests.tables.learning import TEST_FUNCTIONS as TEST_FUNCTIONS
from tests.tables.learning import TRANSFORMS as TRANSFORMS
from tests.tables.running import COLLECTIVES as COLLECTIVES
from tests.tables.steps import SCHEMES as SCHEMES
from tests.tables.steps import SOLVERS as SOLVERS
