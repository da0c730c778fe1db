"""The command `nestvec`: what is common to every command."""

from __future__ import annotations

import io
import sys

import click

from nestvec import __version__
from nestvec.cli.adapt import adapt, transform
from nestvec.cli.cache import cache
from nestvec.cli.console import prepare_streams, say
from nestvec.cli.data import data
from nestvec.cli.evaluate import evaluate
from nestvec.cli.index import index
from nestvec.cli.plan import plan
from nestvec.cli.quickstart import quickstart
from nestvec.cli.rotate import rotate
from nestvec.cli.search import search
from nestvec.cli.train import train
from nestvec.errors import NestvecError

__all__ = ["cli", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Text embeddings that can be cut to any size, and what every byte of them costs.

    \b
    Start with:
      nestvec quickstart                     train and measure on the docs of your own packages
      nestvec rotate minilm --docs docs.jsonl --out runs/rotated
      nestvec train recipe.toml --out runs/mine
      nestvec evaluate runs/mine/model --benchmark runs/mine/benchmark
      nestvec index build runs/index --model minilm --docs docs.jsonl
    """


cli.add_command(quickstart)
cli.add_command(train)
cli.add_command(rotate)
cli.add_command(adapt)
cli.add_command(transform)
cli.add_command(evaluate)
cli.add_command(plan)
cli.add_command(index)
cli.add_command(search)
cli.add_command(cache)
cli.add_command(data)


def run() -> None:
    """Run the command line: our errors are one line and exit 2, anything else is a bug and keeps its traceback."""
    prepare_streams()
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:  # Ctrl-C, in click's words
        say("Interrupted. Nothing was left half written.")
        sys.exit(130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip())
        sys.exit(error.exit_code)
    except NestvecError as error:
        say(f"Error: {error}")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
