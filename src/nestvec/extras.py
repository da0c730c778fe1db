"""Optional dependencies, imported when first needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from nestvec.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency, or say which pip command installs it.

    Args:
        module: Dotted name of the module, such as `"sentence_transformers"`.
        extra: The extra of this package that brings it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The module is not installed.

    Example:
        >>> require("json", extra="train").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A dependency of the module that fails to import is a broken installation, not a missing extra.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"This needs {module}, which is not installed. Run: pip install 'nestvec[{extra}]'"
        ) from None
