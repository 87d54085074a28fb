"""The datasets that can be loaded by name, ``dataset/split``.

A published training split is loaded as two, ``train`` and ``validation`` (see :mod:`hardy.data.splits`). MNIST-C has
one split per corruption.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardy.data.entry import Archive, DataFile, DatasetEntry, Distance, PublishedSplit, Role
from hardy.data.uci import uci_digits
from hardy.errors import UsageError
from hardy.registry import Registry
from hardy.synthetic.glyphs import letter_glyphs

CORRUPTIONS = (
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "shear",
    "scale",
    "rotate",
    "brightness",
    "translate",
    "stripe",
    "fog",
    "spatter",
    "dotted_line",
    "zigzag",
    "canny_edges",
)
"""The 15 of MNIST-C, in the order of its paper."""


def _idx_pair(examples: int, prefix: str, *hashes: str, of: str = "sha256") -> PublishedSplit:
    """Images and labels in IDX files; their hashes, if published, are ``of`` the plain or the gzip files."""
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    proofs = [{of: digest} for digest in hashes] or [{}, {}]
    return PublishedSplit(examples, tuple(DataFile(name, **proof) for name, proof in zip(names, proofs, strict=True)))


_MNIST = DatasetEntry(
    name="mnist",
    title="MNIST",
    role="in-distribution",
    splits={
        "train": _idx_pair(
            60_000,
            "train",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test": _idx_pair(
            10_000,
            "t10k",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
    classes=tuple("0123456789"),
    license="CC BY-SA 3.0",
    citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 1998.",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=(Path(__file__).parent / "mnist",),
)

_FASHION = DatasetEntry(
    name="fashion-mnist",
    title="Fashion-MNIST",
    role="out-of-distribution",
    distance="near",
    splits={
        "train": _idx_pair(
            60_000,
            "train",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test": _idx_pair(
            10_000,
            "t10k",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
    classes=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    license="MIT",
    citation="H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning "
    "algorithms. arXiv 1708.07747, 2017.",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    # Where Debian's package dataset-fashion-mnist puts it.
    folders=(Path("/usr/share/datasets/fashion-mnist"),),
)

_NOTMNIST = DatasetEntry(
    name="notmnist",
    title="notMNIST",
    role="out-of-distribution",
    distance="near",
    splits={
        "test": _idx_pair(
            10_000,
            "t10k",
            "8e7f38ae95cc8f48e0986175ffc9137e5007ebcf3d8fdf6656c904eb9dab198b",
            "5f8e6012f2ce730700d8d05fca098bc47f71d25b890e4bec7ac5ebfd614a4001",
        )
    },
    classes=tuple("ABCDEFGHIJ"),
    license="none stated; published in this form with its author's permission",
    citation="Y. Bulatov. notMNIST dataset. 2011. In MNIST's format by D. Flanagan.",
    mirrors=(
        "https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/master/",
        "https://github.com/davidflanagan/notMNIST-to-MNIST/raw/master/",
    ),
)

_KMNIST = DatasetEntry(
    name="kmnist",
    title="Kuzushiji-MNIST",
    role="out-of-distribution",
    distance="near",
    splits={
        "train": _idx_pair(
            60_000,
            "train",
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            of="gz_sha256",
        ),
        "test": _idx_pair(
            10_000,
            "t10k",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            of="gz_sha256",
        ),
    },
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    license="CC BY-SA 4.0",
    citation="T. Clanuwat et al. Deep learning for classical Japanese literature. arXiv 1812.01718, 2018.",
    mirrors=(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    ),
)

_EMNIST_LETTERS = DatasetEntry(
    name="emnist-letters",
    title="EMNIST letters",
    role="out-of-distribution",
    distance="near",
    splits={
        "train": _idx_pair(124_800, "emnist-letters-train"),
        "test": _idx_pair(20_800, "emnist-letters-test"),
    },
    classes=tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    license="none stated; derived from NIST Special Database 19",
    citation="G. Cohen, S. Afshar, J. Tapson, A. van Schaik. EMNIST: an extension of MNIST to handwritten letters. "
    "arXiv 1702.05373, 2017.",
    mirrors=(
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    ),
    archive=Archive(
        "emnist-gzip.zip",
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        folder="gzip/",
    ),
    transposed=True,
    first_label=1,
)

_MNIST_C = DatasetEntry(
    name="mnist-c",
    title="MNIST-C, as published",
    role="shift",
    splits={
        corruption: PublishedSplit(
            10_000,
            (DataFile(f"mnist_c/{corruption}/test_images.npy"), DataFile(f"mnist_c/{corruption}/test_labels.npy")),
        )
        for corruption in ("identity", *CORRUPTIONS)
    },
    classes=tuple("0123456789"),
    license="as stated at zenodo.org/records/3239543",
    citation="N. Mu, J. Gilmer. MNIST-C: a robustness benchmark for computer vision. arXiv 1906.02337, 2019.",
    mirrors=(
        "https://zenodo.org/records/3239543/files/mnist_c.zip?download=1",
        "https://zenodo.org/record/3239543/files/mnist_c.zip",
    ),
    archive=Archive("mnist_c.zip", "af9ee8c6a815870c7fdde5af84c7bf8db0bcfa1f41056db83871037fba70e493"),
    made_of="mnist/test",
)

_DIGITS = DatasetEntry(
    name="digits",
    title="UCI digits, 8x8 brought to 28x28",
    role="shift",
    splits={"test": PublishedSplit(1_797, load=uci_digits)},
    classes=tuple("0123456789"),
    license="CC BY 4.0",
    citation="E. Alpaydin, C. Kaynak. Optical recognition of handwritten digits. UCI repository, 1998.",
    packages=("sklearn",),
)

_GLYPHS = DatasetEntry(
    name="glyphs",
    title="Letters A to J, drawn from matplotlib's fonts",
    role="out-of-distribution",
    distance="near",
    splits={"test": PublishedSplit(1_980, load=letter_glyphs)},
    classes=tuple("ABCDEFGHIJ"),
    license="generated; the fonts are under the DejaVu, STIX and BaKoMa licenses",
    citation="generated by hardy in the manner of Y. Bulatov's notMNIST, 2011.",
    packages=("PIL", "matplotlib"),
)

DATASETS: Registry[DatasetEntry] = Registry(
    "dataset", (_MNIST, _FASHION, _NOTMNIST, _KMNIST, _EMNIST_LETTERS, _MNIST_C, _DIGITS, _GLYPHS)
)

_USERS = "registered by the user"


def register(
    name: str, *, role: Role = "in-distribution", distance: Distance = "", license: str = "", citation: str = ""
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Decorate a function that loads one split, so that the split can be loaded by its name, ``dataset/split``.

    The function takes no arguments. It returns (images, labels), (images, labels, class names), or a loader: whatever
    :func:`hardy.data.as_dataset` takes. It is called when the split is first needed. Where a dataset has a ``train``
    split and no ``validation`` split, a part of the training split is used for validation.

    Args:
        name: ``dataset/split``.
        role: what the dataset is to the classifiers that are evaluated: the splits of role ``out-of-distribution`` and
            ``shift`` are measured in every evaluation whose images have their shape.
        distance: of what is out of distribution: ``near`` or ``far``, so that it counts for the mean over these.
        license: of the data.
        citation: one line.

    Raises:
        UsageError: the name is taken, or has no split.

    Example:
        >>> import torch
        >>> import hardy.data
        >>> @hardy.data.register("stripes/test")
        ... def stripes():
        ...     images = torch.zeros(100, 1, 28, 28)
        ...     images[:50, :, ::2] = 1
        ...     images[50:, :, :, ::2] = 1
        ...     return images, torch.arange(100) // 50, ("horizontal", "vertical")
        >>> hardy.data.load_dataset("stripes/test").classes
        ('horizontal', 'vertical')
    """
    dataset, slash, split = name.rpartition("/")
    if not slash or not dataset or not split:
        raise UsageError(f"'{name}' names no split; register a split as dataset/split, for example {name}/test")

    def add(load: Callable[[], Any]) -> Callable[[], Any]:
        found = DATASETS.get(dataset)
        splits = dict(found.splits) if found else {}
        if found and (split in splits or found.title != _USERS):
            raise UsageError(
                f"there is a dataset '{name if split in splits else dataset}' already; choose another name"
            )
        splits[split] = PublishedSplit(None, load=load)
        if found:
            DATASETS.remove(dataset)
        DATASETS.add(DatasetEntry(dataset, _USERS, role, splits, license=license, citation=citation, distance=distance))
        return load

    return add
