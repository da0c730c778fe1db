"""A grid and a budget to a plan."""

from nestvec.planning.choose import Choice, choose, describe_cell
from nestvec.planning.costs import Corpus, Expenses, Prices, expenses
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
    "describe_cell",
    "expenses",
    "parse_budget",
    "parse_target",
]
