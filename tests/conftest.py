"""Every public signature of the library is checked against its shapes while the tests run."""

import jax
import pytest
from jaxtyping import install_import_hook

_hook = install_import_hook("reid_jax", "beartype.beartype")


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests of small programs, whose time is compilation: XLA leaves out most optimisations, which halves it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
