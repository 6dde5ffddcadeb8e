"""The SQLite database: the only truth and the only scheduler. Nothing here imports torch.

`database` opens it, `schema` makes and migrates it, `queue` adds experiments and hands out runs, `records` writes
what a run yields, `rows` reads it all back. `files` names what lies beside the database. `care` checks, frees and
copies both; `merge` brings in another.
"""
