"""Shapes and types of arrays are checked at every call of the numerical core while testing."""

import os

from jaxtyping import install_import_hook

# Tests run a program a few times only, so compiling fast matters more than fast code.
_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

install_import_hook(
    ["world_models", "policies", "stages.training_step", "stages.optimiser"], "beartype.beartype"
)
