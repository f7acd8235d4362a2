"""Compiling for a GPU that is not there."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import tiny_splits

from benchmarks import ahead
from reid_jax import presets
from reid_jax.data import training_batches
from reid_jax.spatial import convolve

FOR_CUDA = """
ENTRY %main {
  %fusion.1 = f32[20,7,7,128]{3,2,1,0} fusion(%x), kind=kLoop, calls=%fused
  %a = (f32[20,7,7,384]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), custom_call_target="__cudnn$convForward"
  %b = (f32[768,5,5,256]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), custom_call_target="__cudnn$convBackwardFilter"
  %c = (f32[20,384]{1,0}, s8[0]{0}) custom-call(%x, %k), custom_call_target="__cublas$lt$matmul"
  %w = (s32[], f32[20,7,7,128]{3,2,1,0}) while(%tuple), condition=%condition, body=%body
}
"""


def test_convolutions_left_to_cudnn_are_told_from_those_xla_keeps():
    found = ahead.counts(FOR_CUDA)
    assert found == {
        "cuDNN convolutions": 2, "cuBLAS products": 1, "fusions": 1, "loops": 1, "other convolutions": 0,
    }  # fmt: skip
    lowered = jax.jit(convolve).lower(jnp.ones((4, 4, 2, 3)), jnp.ones((3, 3, 3, 5)))
    kept = ahead.counts(lowered.compiler_ir("hlo").as_hlo_text())
    assert kept["other convolutions"] == 1 and kept["cuDNN convolutions"] == 0


def test_the_described_mini_batch_has_the_shapes_of_one_that_is_read():
    data = presets.preset("strong", "mars").data
    read = next(training_batches(tiny_splits().train, data, 2, 0))
    described = ahead.clips_of(data, 2)
    assert {name: (array.shape, array.dtype) for name, array in described.items()} == {
        name: (np.asarray(read[name]).shape, np.asarray(read[name]).dtype) for name in described
    }


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is not None, reason="JAX can compile for CUDA here")
def test_without_the_plugin_it_says_what_to_install():
    with pytest.raises(RuntimeError, match=r'pip install "jax\[cuda13\]"'):
        ahead.gpu()
