"""`python -m nestvec`."""

from nestvec.cli.main import run

run()
