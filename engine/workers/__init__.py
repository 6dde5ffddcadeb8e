"""Workers: processes that claim runs from the queue and train them.

`pool` starts one for each device (without torch), `worker` claims, `run` takes one run from start to end, `heartbeat`
keeps its lease, `follower` trains along on a further device. They know the database through a desk alone
(`engine.desk`), but for the pool.
"""
