"""Desks: where a worker takes its runs from, and hands in what comes of them. No torch here.

`desk` says what every desk can do. `local` is the database on this machine; `remote` asks the `head` of a cluster,
which has a `session` for each worker that joined; `wire` is what goes between them, `keys` makes certificates. `job`
is what a follower needs of one run, and `hooks` calls the command after an experiment's end. Only the store and what
lies below it may be imported here.
"""
