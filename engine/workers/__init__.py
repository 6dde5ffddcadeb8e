"""Workers: processes that claim runs from the queue and train them.

`pool` starts one for each device (without torch), `worker` claims runs, `run` trains one run from start to end,
`heartbeat` renews its lease, and `follower` trains the same run on a further device. Only the pool opens the database;
all others use a desk (`engine.desk`).
"""
