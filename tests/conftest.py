"""Every public signature of the library is checked against its shapes while the tests run."""

from jaxtyping import install_import_hook

_hook = install_import_hook("reid_jax", "beartype.beartype")
