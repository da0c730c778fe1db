"""Every error nestvec raises on purpose.

Each says what it got, what is allowed and what to do, and also subclasses the builtin it resembles, so that
`except ValueError` keeps working. The command line prints them as one line and exits 2; anything else is a bug.

    NestvecError
    |-- DimensionError (ValueError)          a dim outside the vector, repeated or out of order
    |-- PrecisionError (ValueError)          a precision that is not known
    |-- VectorError (ValueError)             an array that holds no usable vectors
    |-- DataError (ValueError)               bad rows, all of them together, with their places
    |   `-- BenchmarkError                   queries, corpus and qrels that do not fit together
    |-- SourceNotFoundError (FileNotFoundError)  a file, folder or data set that is not there
    |-- RecipeError (ValueError)             an unknown key, a wrong value or a missing one
    |-- ModelError (ValueError)              a base that is no model, or weights that fail their checksum
    |-- AdaptorError (ValueError)            an adaptor that is damaged, or does not fit what it is applied to
    |-- EndpointError (RuntimeError)         a remote encoder that cannot be reached, or answers with something else
    |-- LossInputError (ValueError)          embeddings or settings a loss cannot be computed from
    |-- MetricError (ValueError)             a metric name that is not known
    |-- GridError (ValueError)               cells that cannot be measured, compared or planned with
    |-- PlanError (ValueError)               a plan, target or budget that cannot be read or met
    |   `-- NoPlanError                      no cell of a grid will do
    |-- SearchIndexError (ValueError)        an index that is not there, newer, or not of the vectors it gets
    |   |-- DamagedIndexError                files of an index that are not those that were written
    |   |-- FilterError                      a filter that cannot be read, or names a field that is not there
    |   `-- IndexBusyError                   another process is changing the index
    |-- OutputExistsError (FileExistsError)  results that would be overwritten
    |-- StorageError (OSError)               a full disk or a folder that cannot be written
    |-- ResumeError (ValueError)             a finished run, or a different one
    |-- VerificationError (RuntimeError)     a result that failed its own check
    `-- MissingExtraError (ImportError)      an optional dependency, with the pip command

What can be tolerated is a `NestvecWarning` (UserWarning) in place of an error: counted and said once.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AdaptorError",
    "BenchmarkError",
    "DamagedIndexError",
    "DataError",
    "DimensionError",
    "EndpointError",
    "FilterError",
    "GridError",
    "IndexBusyError",
    "LossInputError",
    "MetricError",
    "MissingExtraError",
    "ModelError",
    "NestvecError",
    "NestvecWarning",
    "NoPlanError",
    "OutputExistsError",
    "PlanError",
    "PrecisionError",
    "RecipeError",
    "ResumeError",
    "SearchIndexError",
    "SourceNotFoundError",
    "StorageError",
    "VectorError",
    "VerificationError",
]


class NestvecError(Exception):
    """The root: catch it to catch everything nestvec raises on purpose."""


class NestvecWarning(UserWarning):
    """What a user should know and nothing fails for: what was left out, tolerated or guessed, counted and said once."""


class DimensionError(NestvecError, ValueError):
    """A dim is outside 1..full_dim, repeated or out of order."""


class PrecisionError(NestvecError, ValueError):
    """A precision is not known."""


class VectorError(NestvecError, ValueError):
    """An array holds no usable vectors: wrong type, wrong shape, or numbers that are not finite."""


class DataError(NestvecError, ValueError):
    """Rows cannot be used; the message lists every bad row of the source with its place."""


class BenchmarkError(DataError):
    """Queries, corpus and qrels do not fit together."""


class SourceNotFoundError(NestvecError, FileNotFoundError):
    """A file, folder, split or hub data set is not there."""

    def __str__(self) -> str:
        """FileNotFoundError would format (errno, text) pairs; ours is always one sentence."""
        return str(self.args[0]) if self.args else ""


class RecipeError(NestvecError, ValueError):
    """A recipe has an unknown key, a wrong value, or lacks a value that has no default."""


class ModelError(NestvecError, ValueError):
    """A base is no model that can be loaded, its weights fail their checksum, or it gives a text no direction.

    Attributes:
        text: The text that it gives none; None where it is about something else.
    """

    text: str | None = None


class AdaptorError(NestvecError, ValueError):
    """An adaptor is damaged, cannot be fitted as asked, or does not fit what it is applied to."""


class EndpointError(NestvecError, RuntimeError):
    """A remote encoder cannot be reached, refuses, or answers with something else than vectors.

    Attributes:
        text: The text that it gives no direction, or refuses; None where it is about something else.
        vectors: Vectors of the texts before, float32, which it had answered; None where there are none.
    """

    text: str | None = None
    vectors: Any = None


class LossInputError(NestvecError, ValueError):
    """A loss got embeddings or settings it cannot be computed from."""


class MetricError(NestvecError, ValueError):
    """A metric name is not known."""


class GridError(NestvecError, ValueError):
    """Cells of a grid cannot be measured, compared or planned with."""


class PlanError(NestvecError, ValueError):
    """A plan, a target or a budget cannot be read, or fits no grid."""


class NoPlanError(PlanError):
    """No cell of a grid meets what is asked; the message says by how much the nearest one misses."""


class SearchIndexError(NestvecError, ValueError):
    """An index is not there, of another format, or does not fit the vectors, ids or settings it gets."""


class DamagedIndexError(SearchIndexError):
    """A file of an index is not there, or not as it was written."""


class FilterError(SearchIndexError):
    """A filter cannot be read, or names a field that no document has; the message marks the place."""


class IndexBusyError(SearchIndexError):
    """Another process is changing the index."""


class OutputExistsError(NestvecError, FileExistsError):
    """The output folder holds results that would be overwritten."""


class StorageError(NestvecError, OSError):
    """The disk is full, or the output folder cannot be written."""


class ResumeError(NestvecError, ValueError):
    """The run is already finished, or what is there belongs to a different run."""


class VerificationError(NestvecError, RuntimeError):
    """A result failed the check that nestvec runs on its own output."""


class MissingExtraError(NestvecError, ImportError):
    """An optional dependency is missing; the message names the pip command."""
