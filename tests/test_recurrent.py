"""The ConvGRU against loops written from Eq. 5, PyTorch's convolutions and gradients, and dense GRUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import recurrent, spatial
from reid_jax.config import RecurrentConfig
from reid_jax.layers import Kernels

pytestmark = pytest.mark.usefixtures("quick_compilation")

FORMULATIONS = ("spatial", "frequency")


def settings(channels, input_kernels, state_kernels, **others):
    return RecurrentConfig(channels=channels, input_kernels=input_kernels, state_kernels=state_kernels, **others)


def correlate(x, kernel):
    """Zero-padded correlation with one kernel, output point by output point."""
    k1, k2 = kernel.shape[:2]
    padded = np.pad(x, ((k1 // 2, k1 // 2), (k2 // 2, k2 // 2), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.tensordot(padded[i : i + k1, j : j + k2], kernel, 3)
    return out


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def equation_5(kernels, x, h):
    """One layer, one frame, line by line as Eq. 5 stands."""
    w_z, w_r, w = np.split(np.asarray(kernels.input), 3, axis=-1)
    u_z, u_r, u = np.split(np.asarray(kernels.state), 3, axis=-1)
    z = sigmoid(correlate(x, w_z) + correlate(h, u_z))
    r = sigmoid(correlate(x, w_r) + correlate(h, u_r))
    candidate = np.tanh(correlate(x, w) + correlate(r * h, u))
    return (1 - z) * h + z * candidate


def pool_by_hand(h, window, stride):
    """Maxima of windows that may hang over the border: 3x3 is centred on its point, 2x2 begins there."""
    before = (window - 1) // 2
    rows, columns = (-(-n // stride) for n in h.shape[:2])
    out = np.zeros((rows, columns, h.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            top, left = max(i * stride - before, 0), max(j * stride - before, 0)
            out[i, j] = h[top : i * stride - before + window, left : j * stride - before + window].max((0, 1))
    return out


def random_stack(seed, grid, features, config):
    """Kernels with unit pre-activations, three frames and first states."""
    rng, kernels, channels = np.random.default_rng(seed), [], features
    for hidden, k_input, k_state in zip(config.channels, config.input_kernels, config.state_kernels, strict=True):
        kernels.append(Kernels(normal(rng, k_input, channels, hidden), normal(rng, k_state, hidden, hidden)))
        channels = hidden
    grids = recurrent.layer_grids(grid, len(config.channels), config.between)
    states = tuple(np.tanh(rng.standard_normal((*size, c))) for size, c in zip(grids, config.channels, strict=True))
    frames = jnp.asarray(rng.standard_normal((3, *grid, features)))
    return tuple(kernels), frames, tuple(jnp.asarray(h, frames.dtype) for h in states)


def normal(rng, k, channels, hidden):
    return jnp.asarray(rng.standard_normal((k, k, channels, 3 * hidden)) * (k * k * channels) ** -0.5)


def scan(kernels, frames, states, config):
    """Every layer's states at every frame."""

    def step(layers, shared, states, x):
        states = recurrent.step(layers, x, states, config, None)
        return states, states

    grids = [h.shape[:2] for h in states]
    return recurrent.scan_frames(step, kernels, grids, config.formulation, "float32", None, states, frames)[1]


run = jax.jit(scan, static_argnames="config")


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    ("grid", "k_input", "k_state"), [((3, 2), 3, 5), ((4, 4), 1, 3), ((4, 5), 9, 1), ((1, 1), 3, 3)]
)
def test_cell_is_equation_5(formulation, grid, k_input, k_state):
    with jax.enable_x64(True):
        config = settings((3,), (k_input,), (k_state,), formulation=formulation)
        (kernels,), frames, (h,) = random_stack(1, grid, 2, config)
        h_next = run((kernels,), frames[:1], (h,), config)[0][0]
        np.testing.assert_allclose(h_next, equation_5(kernels, np.asarray(frames[0]), np.asarray(h)), atol=1e-12)


@pytest.mark.parametrize("between", ["keep", "halve"])
def test_scan_is_a_loop_of_cells_and_pooling(between):
    config = settings((3, 2, 3), (3, 1, 5), (1, 3, 3), between=between, formulation="spatial")
    kernels, frames, states = random_stack(2, (5, 4), 2, config)
    scanned = run(kernels, frames, states, config)
    states = [np.asarray(h) for h in states]
    for t, x in enumerate(np.asarray(frames)):
        for layer, kernel in enumerate(kernels):
            if layer:
                x = pool_by_hand(x, *((3, 1) if between == "keep" else (2, 2)))
            x = states[layer] = equation_5(kernel, x, states[layer])
            np.testing.assert_allclose(scanned[layer][t], x, atol=1e-5)


@pytest.mark.parametrize(("between", "grid"), [("keep", (4, 4)), ("halve", (5, 3))])
def test_stack_and_its_gradients_equal_pytorch(between, grid):
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")

    class ConvGRU(torch.nn.Module):
        """The usual PyTorch way: one Conv2d a gate and side."""

        def __init__(self, kernels):
            super().__init__()
            self.convs = torch.nn.ModuleList(self.conv(gate) for part in kernels for gate in np.split(part, 3, axis=-1))

        @staticmethod
        def conv(kernel):
            k, _, channels_in, channels_out = kernel.shape
            conv = torch.nn.Conv2d(channels_in, channels_out, k, padding=k // 2, bias=False, dtype=torch.float64)
            conv.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            return conv

        def forward(self, x, h):
            w_z, w_r, w, u_z, u_r, u = self.convs
            z, r = torch.sigmoid(w_z(x) + u_z(h)), torch.sigmoid(w_r(x) + u_r(h))
            return (1 - z) * h + z * torch.tanh(w(x) + u(r * h))

        def gradients(self):
            parts = [conv.weight.grad.numpy().transpose(2, 3, 1, 0) for conv in self.convs]
            return np.concatenate(parts[:3], -1), np.concatenate(parts[3:], -1)

    with jax.enable_x64(True):
        config = settings((3, 2), (3, 5), (5, 3), between=between, formulation="spatial")
        kernels, frames, states = random_stack(3, grid, 2, config)
        weights = np.random.default_rng(3).standard_normal((3, *states[-1].shape))

        def total(*arguments):
            return jnp.sum(scan(*arguments, config)[-1] * weights)

        differentiate = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
        value, gradients = differentiate(kernels, frames, states)

    layers = [ConvGRU([np.asarray(part) for part in layer]) for layer in kernels]
    first = [torch.tensor(np.array(h).transpose(2, 0, 1)[None], requires_grad=True) for h in states]
    clip = torch.tensor(np.array(frames).transpose(0, 3, 1, 2), requires_grad=True)
    hidden, result = list(first), 0.0
    for t in range(len(clip)):
        x = clip[t : t + 1]
        for layer, module in enumerate(layers):
            if layer and between == "keep":
                x = torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1)
            elif layer:
                x = torch.nn.functional.max_pool2d(x, 2, stride=2, ceil_mode=True)
            x = hidden[layer] = module(x, hidden[layer])
        result = result + (x[0] * torch.tensor(weights[t].transpose(2, 0, 1).copy())).sum()
    result.backward()

    np.testing.assert_allclose(value, result.item(), rtol=1e-10)
    for ours, layer in zip(gradients[0], layers, strict=True):
        for mine, theirs in zip(ours, layer.gradients(), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-10)
    np.testing.assert_allclose(gradients[1], clip.grad.numpy().transpose(0, 2, 3, 1), atol=1e-10)
    for mine, h in zip(gradients[2], first, strict=True):
        np.testing.assert_allclose(mine, h.grad.numpy()[0].transpose(1, 2, 0), atol=1e-10)


@pytest.mark.parametrize("k", [1, 3])
def test_fully_connected_gru_is_the_one_by_one_grid(k):
    """On a 1x1 grid only a kernel's middle tap is used: Eq. 2, the dense GRU of vectors."""
    with jax.enable_x64(True):
        config = settings((4,), (k,), (k,), formulation="spatial")
        kernels, frames, states = random_stack(4, (1, 1), 3, config)
        ours = run(kernels, frames, states, config)[0][:, 0, 0]
    w_z, w_r, w = np.split(np.asarray(kernels[0].input)[k // 2, k // 2], 3, axis=-1)
    u_z, u_r, u = np.split(np.asarray(kernels[0].state)[k // 2, k // 2], 3, axis=-1)
    h = np.asarray(states[0])[0, 0]
    for t, x in enumerate(np.asarray(frames)[:, 0, 0]):
        z, r = sigmoid(x @ w_z + h @ u_z), sigmoid(x @ w_r + h @ u_r)
        h = (1 - z) * h + z * np.tanh(x @ w + (r * h) @ u)
        np.testing.assert_allclose(ours[t], h, atol=1e-12)


def test_one_by_one_grid_equals_pytorchs_gru_cell():
    """PyTorch's z is 1 - z of Eq. 2, and it applies r after U: the same function where U is diagonal."""
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")
    with jax.enable_x64(True):
        config = settings((4,), (1,), (1,), formulation="spatial")
        (kernel,), frames, states = random_stack(5, (1, 1), 3, config)
        diagonal = kernel.state.at[..., 8:].multiply(jnp.eye(4))
        ours = run((Kernels(kernel.input, diagonal),), frames, states, config)[0][:, 0, 0]
    reference = torch.nn.GRUCell(3, 4, bias=False, dtype=torch.float64)
    for weight, part in ((reference.weight_ih, kernel.input), (reference.weight_hh, diagonal)):
        z, r, candidate = np.split(np.asarray(part)[0, 0], 3, axis=-1)
        weight.data = torch.tensor(np.concatenate([r, -z, candidate], -1).T.copy())
    h = torch.tensor(np.array(states[0])[0])
    for t in range(3):
        h = reference(torch.tensor(np.array(frames[t])[0]), h)
        np.testing.assert_allclose(ours[t], h.detach().numpy()[0], atol=1e-12)


def test_states_stay_between_minus_one_and_one():
    """h_t is a mean of h_{t-1} and a tanh, whatever the kernels and inputs."""
    config = settings((3, 2), (3, 3), (3, 3), formulation="spatial")
    kernels, frames, states = random_stack(6, (4, 4), 2, config)
    kernels = jax.tree.map(lambda part: 100 * part, kernels)
    for h in run(kernels, frames, states, config):
        assert 0.9 < np.abs(h).max() <= 1


@pytest.mark.parametrize("grid", [(7, 7), (7, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("between", ["keep", "halve"])
def test_pooling_between_layers_by_hand(grid, between):
    h = np.random.default_rng(7).uniform(-1, -0.5, (*grid, 2)).astype(np.float32)
    pooled = recurrent.pool_between(jnp.asarray(h), between)
    np.testing.assert_array_equal(
        pooled, pool_by_hand(h, *((3, 1) if between == "keep" else (2, 2))).astype(np.float32)
    )
    assert recurrent.layer_grids(grid, 2, between) == [grid, pooled.shape[:2]]


def test_layer_grids():
    assert recurrent.layer_grids((7, 7), 3, "keep") == [(7, 7)] * 3
    assert recurrent.layer_grids((7, 5), 3, "halve") == [(7, 5), (4, 3), (2, 2)]


def key(seed):
    """A key whose draws compile in less time than the default's."""
    return jax.random.key(seed, impl="unsafe_rbg")


def test_paper_kernels_are_uniform_between_minus_one_and_one():
    layers = recurrent.initialise(key(8), 16, settings((32, 16), (3, 3), (3, 3), initial="paper"))
    assert [part.shape for layer in layers for part in layer] == [
        (3, 3, 16, 96),
        (3, 3, 32, 96),
        (3, 3, 32, 48),
        (3, 3, 16, 48),
    ]
    for part in (part for layer in layers for part in layer):
        assert np.abs(part).max() <= 1 and np.abs(part).max() > 0.99
        np.testing.assert_allclose([np.mean(part), np.var(part)], [0, 1 / 3], atol=0.03)


def test_scaled_kernels_keep_the_variance_of_unit_inputs():
    (layer,) = recurrent.initialise(key(9), 24, settings((32,), (5,), (3,), initial="scaled"))
    inputs = np.random.default_rng(9).standard_normal((9, 9, 32)).astype(np.float32)
    for kernel in layer:
        inner = spatial.convolve(jnp.asarray(inputs[..., : kernel.shape[2]]), kernel)[2:-2, 2:-2]
        assert 0.8 < np.var(inner) < 1.25


def test_every_kernel_is_drawn_anew():
    layers = recurrent.initialise(key(11), 4, settings((4, 4), (3, 3), (3, 3)))
    parts = [np.asarray(part) for layer in layers for part in layer]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(parts) for b in parts[:i])


def test_dropout_is_off_without_key_or_rate():
    x = jnp.arange(6.0)
    assert recurrent.dropout(x, 0.7, None) is x
    assert recurrent.dropout(x, 0.0, jax.random.key(0)) is x


def test_dropout_keeps_the_mean_and_its_share_of_the_elements():
    x = jnp.asarray(np.random.default_rng(12).uniform(1, 2, (200, 500)), jnp.float32)
    dropped = np.asarray(recurrent.dropout(x, 0.7, jax.random.key(12)))
    kept = dropped != 0
    assert abs(kept.mean() - 0.3) < 0.01
    np.testing.assert_allclose(dropped[kept], np.asarray(x)[kept] / 0.3, rtol=1e-6)
    assert abs(dropped.mean() / x.mean() - 1) < 0.02


def test_dropout_follows_from_the_key():
    x = jnp.ones(100)
    first, again, other = (recurrent.dropout(x, 0.5, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
