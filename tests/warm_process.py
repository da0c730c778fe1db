"""A process that has imported what commands need, and forks for each: one starts in a blink, not in seconds.

Reads one JSON line a command, {arguments, environment, folder, output, errors}, and answers each with its exit status.
Nothing is computed before a fork: threads would not survive it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn


def main() -> None:
    """Answer until the input ends."""
    from nestvec.cli.console import quiet_libraries

    quiet_libraries()
    import datasets  # noqa: F401
    import faiss  # noqa: F401
    import matplotlib.pyplot as plt  # noqa: F401
    import sentence_transformers  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if not child:
            _run(command)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(command: dict[str, Any]) -> NoReturn:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for descriptor, path in enumerate((os.devnull, command["output"], command["errors"])):
        os.dup2(os.open(path, flags if descriptor else os.O_RDONLY), descriptor)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv = ["nestvec", *command["arguments"]]
    status = 1
    try:
        from nestvec.cli.main import run

        run()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001  # printed as Python does, in the child that ends with it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
