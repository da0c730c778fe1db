"""A grid and a budget to a plan."""

from nestvec.planning.choose import Choice, choose
from nestvec.planning.costs import Corpus, Expenses, Prices, disk_bytes, expenses, lists_of, memory_bytes
from nestvec.planning.growth import times_longer
from nestvec.planning.limits import COSTS, Limit, check_limits, parse_budget, parse_target

__all__ = [
    "COSTS",
    "Choice",
    "Corpus",
    "Expenses",
    "Limit",
    "Prices",
    "check_limits",
    "choose",
    "disk_bytes",
    "expenses",
    "lists_of",
    "memory_bytes",
    "parse_budget",
    "parse_target",
    "times_longer",
]
