"""Fisher vectors against a loop over Eq. 10 and scikit-image's, and padding."""

import jax
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from reid_jax import fisher

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def clips():
    """Descriptors of five tracklets, padded with what must not be read, and their mask."""
    generator = np.random.default_rng(0)
    mask = np.arange(9) < np.array([9, 4, 1, 6, 3])[:, None]
    kinds = generator.integers(0, 3, mask.shape)
    descriptors = generator.normal(0, 0.5, (*mask.shape, 4)) + np.array([-2.0, 0, 3])[kinds][..., None]
    return np.where(mask[..., None], descriptors, 1e6).astype(np.float32), mask


@pytest.fixture(scope="module")
def mixture(clips):
    descriptors, mask = clips
    return fisher.fit_mixture(descriptors[mask], 3, 1e-3, 0)


def library_mixture(mixture):
    """The same mixture as scikit-learn's class."""
    library = GaussianMixture(len(mixture.weights), covariance_type="diag")
    library.weights_, library.means_, library.covariances_ = mixture
    library.precisions_cholesky_ = 1 / np.sqrt(mixture.variances)
    return library


def by_loops(mixture, valid):
    """Eq. 10, letter by letter."""
    u, v = np.zeros_like(mixture.means), np.zeros_like(mixture.means)
    frames, (components, size) = len(valid), mixture.means.shape
    for h in valid:
        densities = [
            mixture.weights[k] * np.prod(norm.pdf(h, mixture.means[k], np.sqrt(mixture.variances[k])))
            for k in range(components)
        ]
        for k in range(components):
            q = densities[k] / sum(densities)
            for d in range(size):
                deviation = (h[d] - mixture.means[k, d]) / np.sqrt(mixture.variances[k, d])
                u[k, d] += q * deviation / (frames * np.sqrt(mixture.weights[k]))
                v[k, d] += q * (deviation**2 - 1) / (frames * np.sqrt(2 * mixture.weights[k]))
    return np.concatenate([u.ravel(), v.ravel()])


def test_the_mixture_finds_the_groups(mixture, clips):
    np.testing.assert_allclose(np.sort(mixture.means, axis=0), [[-2] * 4, [0] * 4, [3] * 4], atol=0.6)
    np.testing.assert_allclose(mixture.weights.sum(), 1)
    assert (mixture.variances > 0).all()
    descriptors, mask = clips
    again = fisher.fit_mixture(descriptors[mask], 3, 1e-3, 0)
    for one, other in zip(mixture, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_mixture_does_not_depend_on_the_scale_of_the_states(mixture, clips):
    descriptors, mask = clips
    small = fisher.fit_mixture(descriptors[mask] * np.float32(2**-10), 3, 1e-3, 0)
    np.testing.assert_allclose(small.means * 2**10, mixture.means, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(small.variances * 2**20, mixture.variances, rtol=1e-6)


def test_posteriors_equal_those_of_scikit_learn(mixture, clips):
    valid = clips[0][clips[1]]
    expected = library_mixture(mixture).predict_proba(valid)
    np.testing.assert_allclose(fisher.posteriors(mixture, valid), expected, atol=1e-5)


def test_fisher_vectors_equal_eq_10_by_loops(mixture, clips):
    descriptors, mask = clips
    vectors = fisher.fisher_vectors(mixture, descriptors, mask, False)
    assert vectors.shape == (5, 2 * 3 * 4)
    for vector, clip, valid in zip(vectors, descriptors, mask, strict=True):
        np.testing.assert_allclose(vector, by_loops(mixture, clip[valid]), rtol=1e-4, atol=1e-5)


def test_fisher_vectors_equal_scikit_image_up_to_its_weights_and_sign(mixture, clips):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image (the extra `dev`) is not installed")
    descriptors, mask = clips
    for clip, valid in zip(descriptors, mask, strict=True):
        library = feature.fisher_vector(clip[valid].astype(np.float64), library_mixture(mixture))
        weights, u, minus_v = np.split(library, [3, 3 + 12])
        ours = fisher.fisher_vector(mixture, clip, valid)
        np.testing.assert_allclose(ours, np.concatenate([u, -minus_v]), rtol=1e-4, atol=1e-5)


def test_improved_vectors_are_signed_roots_of_unit_length(mixture, clips):
    plain = np.asarray(fisher.fisher_vectors(mixture, *clips, False))
    rooted = np.sign(plain) * np.sqrt(np.abs(plain))
    expected = rooted / np.linalg.norm(rooted, axis=1, keepdims=True)
    np.testing.assert_allclose(fisher.fisher_vectors(mixture, *clips, True), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("improved", [False, True])
def test_padding_changes_nothing(mixture, clips, improved):
    descriptors, mask = clips
    vectors = fisher.fisher_vectors(mixture, descriptors, mask, improved)
    for fill in (0.0, -7.0, np.nan):
        padded = np.concatenate([np.where(mask[..., None], descriptors, fill), np.full((5, 3, 4), fill)], 1)
        longer = np.concatenate([mask, np.zeros((5, 3), bool)], 1)
        found = fisher.fisher_vectors(mixture, padded.astype(np.float32), longer, improved)
        np.testing.assert_allclose(found, vectors, rtol=1e-5, atol=1e-6)
    empty = fisher.fisher_vectors(mixture, descriptors, np.zeros_like(mask), improved)
    np.testing.assert_array_equal(empty, np.zeros_like(empty))


def test_the_order_of_frames_does_not_matter_and_their_repetition_neither(mixture, clips):
    clip = clips[0][:1]
    valid = np.ones((1, 9), bool)
    once = fisher.fisher_vectors(mixture, clip, valid, False)
    twice = np.concatenate([clip[:, ::-1], clip], 1)
    again = fisher.fisher_vectors(mixture, twice, np.ones((1, 18), bool), False)
    np.testing.assert_allclose(again, once, rtol=1e-4, atol=1e-5)


def test_the_average_over_the_mixtures_own_descriptors_is_nearly_zero(mixture, clips):
    """The gradient of the likelihood vanishes where it is largest, but for what is added to the variances."""
    valid = clips[0][clips[1]]
    vector = fisher.fisher_vector(mixture, valid, np.ones(len(valid), bool))
    assert np.abs(vector).max() < 0.05


def test_descriptors_are_frames_averaged_over_the_grid_or_regions():
    states = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 4, 2, 5)))
    mask = np.array([[True, True, False], [True, False, False]])
    frames, valid = fisher.descriptors(states, mask, "frame")
    np.testing.assert_allclose(frames, states.mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(valid, mask)
    regions, valid = fisher.descriptors(states, mask, "region")
    assert regions.shape == (2, 24, 5) and valid.shape == (2, 24)
    own = np.asarray(regions)[0][np.asarray(valid)[0]]
    np.testing.assert_array_equal(own, states[0, :2].reshape(-1, 5))


@pytest.mark.parametrize(
    "descriptors, components, message",
    [
        (np.zeros((5, 2)), 3, "not 5 descriptors"),
        (np.zeros((5, 2)), 0, "0 components"),
        (np.ones((9, 2)), 2, "all 9 descriptors are equal"),
        (np.full((9, 2), np.nan), 2, "not finite"),
    ],
)
def test_what_is_wrong_is_named(descriptors, components, message):
    with pytest.raises(ValueError, match=message):
        fisher.fit_mixture(descriptors, components, 1e-3, 0)
