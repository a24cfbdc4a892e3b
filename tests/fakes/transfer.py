"""The fake stage under the name that the pipeline calls."""

from tests.fakes.stage import TransferInputs as Inputs
from tests.fakes.stage import run

__all__ = ["Inputs", "run"]
