"""The engine: trains networks under masks, finds tickets, and records every step in SQLite.

Importing this package imports nothing else. The rooms (see `docs/architecture.md`): `recipes` and `experiments` say
what is to be trained, `store` holds it, `worker` and `run` do it, `training`, `pruning` and `tickets` know how.
"""

__version__ = "0.1.0"
