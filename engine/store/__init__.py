"""The store: all records, in one SQLite database and a folder of files next to it. No torch.

`schema` and `database` open the database. `adding` and `queue` hold what to train, `leases` which worker trains it.
`records` writes the results of a run, under its claim; `rows` and `replicates` read results. `files`, `exports` and
`imports` keep tickets. `care` and `merge` check, copy and combine whole databases.
"""
