"""Every public signature of the library is checked against its shapes while the tests run."""

import jax
import pytest
from jaxtyping import install_import_hook

_hook = install_import_hook("reid_jax", "beartype.beartype")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_end_with_their_file():
    """Every program that XLA compiles holds memory mappings, and Linux kills a process at 65,530 of them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests of small programs, whose time is compilation: XLA leaves out most optimisations, which halves it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
