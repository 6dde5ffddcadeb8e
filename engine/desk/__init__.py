"""Desks: a worker claims its runs from a desk and hands their results to it. Imports no torch.

`desk` declares the operations of every desk. `local` carries them out on the database of this machine. `remote` sends
them to the `head` of a cluster, which keeps a `session` for each joined worker; `wire` defines their messages, `keys`
makes certificates, and `starting` starts machines that join. `job` holds what a follower needs to know about one run.
`hooks` calls a command when an experiment has ended. This package may import only the store and the packages below it.
"""
