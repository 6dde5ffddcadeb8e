"""The store: everything that is recorded, in one SQLite database and a folder of files beside it. No torch.

`schema` and `database` open it; `adding`, `queue` and `leases` say what is wanted and who trains it; `records` takes
what a run yields, under its claim; `rows` and `replicates` read results back; `files`, `exports` and `imports` keep
tickets; `care` and `merge` look after whole databases.
"""
