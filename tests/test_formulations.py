"""Which formulation `auto` takes, and that kernels prepared for it are the same function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_recurrent import FORMULATIONS, random_stack, run, scan, settings

from reid_jax import recurrent
from reid_jax.frequency import Frequency

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize(
    ("backend", "precision", "grid", "sides", "images", "chosen"),
    [
        ("cpu", "tfloat32", (7, 7), (5, 5), 400, "frequency"),
        ("cpu", "float32", (7, 7), (5, 5), 400, "frequency"),
        ("cpu", "tfloat32", (6, 3), (3, 3), 64, "frequency"),
        ("cpu", "tfloat32", (7, 7), (3, 3), 8, "spatial"),
        ("cpu", "tfloat32", (7, 7), (3, 5), 8, "spatial"),
        ("cpu", "tfloat32", (7, 7), (3, 9), 8, "frequency"),
        ("cpu", "tfloat32", (7, 7), (1, 3), 400, "frequency"),
        ("cpu", "tfloat32", (7, 7), (1, 1), 10**6, "spatial"),
        ("cpu", "tfloat32", (1, 1), (5, 5), 10**6, "spatial"),
        ("gpu", "tfloat32", (7, 7), (5, 5), 400, "spatial"),
        ("gpu", "bfloat16", (7, 7), (9, 9), np.inf, "spatial"),
        ("gpu", "float32", (7, 7), (5, 5), 400, "frequency"),
        ("gpu", "float32", (7, 7), (5, 5), 399, "spatial"),
        ("gpu", "float32", (7, 7), (9, 9), 124, "spatial"),
        ("gpu", "float32", (7, 7), (3, 3), np.inf, "spatial"),
        ("gpu", "float32", (2, 2), (9, 9), np.inf, "spatial"),
        ("tpu", "float32", (7, 7), (9, 9), 10**6, "spatial"),
    ],
)
def test_the_formulation_follows_from_the_backend_the_precision_the_taps_that_the_grid_uses_and_the_images(
    backend, precision, grid, sides, images, chosen
):
    assert recurrent.choose_formulation(backend, precision, grid, sides, images) == chosen


@pytest.mark.parametrize("grid", [(1, 4), (2, 2), (7, 7)])
def test_more_images_or_larger_kernels_never_lead_back_from_the_frequencies(grid):
    sides, images = (1, 3, 5, 7, 9), (1, 4, 16, 64, 256, np.inf)
    choose = partial(recurrent.choose_formulation, "cpu", "tfloat32", grid)
    chosen = [[choose((k, k), n) == "frequency" for n in images] for k in sides]
    for table in (np.array(chosen), np.array(chosen).T):
        assert (np.diff(table.astype(int), axis=0) >= 0).all()
    assert all(row[-1] for row in chosen[1:]) and not any(row[0] for row in chosen[:2])


@pytest.mark.parametrize("few", [1, 2])
def test_kernels_are_prepared_as_for_many_clips_and_serve_any_number(few):
    config = settings((3,), (3,), (3,))
    kernels, frames, states = random_stack(17, (4, 3), 2, config)
    prepared = recurrent.prepare(kernels, [(4, 3)], "auto", "float32")
    assert isinstance(prepared[0].convolution, Frequency) == (jax.default_backend() == "cpu")
    states, frames = (jnp.stack([array] * few, -2) for array in (states[0], frames))
    one, other = (run(form, frames, (states,), config)[0] for form in (kernels, prepared))
    assert one.shape == (3, 4, 3, few, 3)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("formulation", [*FORMULATIONS, "auto"])
def test_prepared_kernels_give_the_same_states(formulation):
    config = settings((3, 2), (3, 1), (5, 1), formulation=formulation)
    kernels, frames, states = random_stack(13, (4, 3), 2, config)
    prepared = recurrent.prepare(kernels, [h.shape[:2] for h in states], formulation, "float32")
    for one, other in zip(run(kernels, frames, states, config), run(prepared, frames, states, config), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_the_scans_gradient_can_be_mapped(formulation):
    """Over first states, say: the same as one after the other."""
    config = settings((3,), (3,), (3,), formulation=formulation)
    kernels, frames, (h,) = random_stack(16, (3, 2), 2, config)
    several = jnp.stack([h, -h, 0.5 * h])
    gradient = jax.grad(lambda kernels, h: jnp.sum(jnp.square(scan(kernels, frames, (h,), config)[0])))
    mapped = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(kernels, several)
    for number in range(3):
        alone = jax.jit(gradient)(kernels, several[number])
        for one, other in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one[number], other, atol=1e-4)
