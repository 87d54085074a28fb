"""The bundles that come with hardy, by name, and loading one by its name or from its folder."""

from __future__ import annotations

from pathlib import Path

from hardy.deployment.bundle import BUNDLE, Bundle, load_bundle

SHIPPED = Path(__file__).parent / "shipped"


def shipped() -> dict[str, Path]:
    """The folders of the bundles that come with hardy, by name."""
    return {found.parent.name: found.parent for found in sorted(SHIPPED.glob(f"*/{BUNDLE}"))}


def located(name: str | Path) -> Path:
    """The path that ``name`` stands for: what lies there, else the bundle of that name that comes with hardy.

    What lies in the current folder comes first, so that a path always means what it says.
    """
    path = Path(name)
    return path if path.exists() else shipped().get(str(name), path)


def load(bundle: str | Path) -> Bundle:
    """A bundle: its folder, or the name of one that comes with hardy. It is checked like any other.

    Args:
        bundle: a path, or ``flagship``. A file or folder of that name comes first.

    Raises:
        BundleError: no bundle, or one that is not as it was written; see :func:`load_bundle`.

    Example:
        >>> import hardy
        >>> flagship = hardy.load("flagship")
        >>> flagship.predict("digit.png").best
        '7'
        >>> flagship.classifier(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return load_bundle(located(bundle))
