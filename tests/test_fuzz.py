"""Some cases of ``benchmarks/fuzz.py``: damaged files are read or refused, at once, and nothing else is touched."""

from __future__ import annotations

import importlib
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

EACH = 4
FORMATS = 15


@pytest.fixture(scope="module")
def fuzz() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
        return importlib.import_module("fuzz")


@pytest.fixture(scope="module")
def sound(fuzz: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        # The script makes them smaller for its whole process.
        for name in ("IMAGES_PER_KIND", "PAGES_PER_KIND", "VARIANTS", "EXPOSURE_FONTS"):
            patch.setattr(f"hardy.deployment.fit.{name}", None)
        fuzz.write_sound_files(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(FORMATS))
def test_damaged_files_are_read_or_refused(fuzz: Any, sound: Path, tmp_path: Path, number: int) -> None:
    formats = fuzz.formats_of(sound)
    assert len(formats) == FORMATS
    name, form = list(formats.items())[number]
    before = fuzz.everything(sound)
    for case in range(EACH):
        copied = tmp_path / "case"
        shutil.copytree(form.folder, copied)
        fuzz.damage(form, copied, random.Random(f"test {case}"))
        started = time.process_time()
        came, trace = fuzz.came_of(form, copied)
        assert came in ("read", "refused"), f"{name}, case {case}: {trace}"
        assert time.process_time() - started < 5
        assert [it.name for it in tmp_path.iterdir()] == ["case"]
        shutil.rmtree(copied)
    assert fuzz.everything(sound) == before
