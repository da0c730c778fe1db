"""Optional dependencies. Run: pytest tests/test_extras.py (a second)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nestvec.errors import MissingExtraError
from nestvec.extras import require


def test_a_missing_package_names_the_pip_command() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        require("a_package_nobody_has", extra="index")


def test_a_package_that_is_there_but_broken_shows_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import a_package_nobody_has\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has") as caught:
        require("half_installed", extra="index")
    assert not isinstance(caught.value, MissingExtraError)
    sys.modules.pop("half_installed", None)
