"""The rules that say which layers are prunable.

Runs without a rule, such as dense ones, are shared by chains of all rules and record the layers of the widest. Each
layer records the narrowest rule that prunes it; the view `layers_by_rule` lists the layers that each rule counts.
"""

import sqlite3
from typing import get_args

from engine.recipes import Prunable
from engine.store.leases import OF_EXPERIMENT

RULES: tuple[Prunable, ...] = get_args(Prunable)


def is_within(rule: Prunable, other: Prunable) -> bool:
    """Whether `other` prunes all layers that `rule` prunes."""
    return RULES.index(rule) <= RULES.index(other)


def narrowest(connection: sqlite3.Connection, run_id: int) -> Prunable:
    """The narrowest rule of the experiments that have a run; the widest rule if none has it."""
    rows = connection.execute(
        f"""
        SELECT DISTINCT {OF_EXPERIMENT} FROM experiments e
        JOIN experiment_curves c ON c.experiment_id = e.id JOIN curve_points p ON p.curve_id = c.id
        WHERE p.run_id = ?
        """,
        (run_id,),
    )
    return min((row[0] for row in rows), key=RULES.index, default=RULES[-1])
