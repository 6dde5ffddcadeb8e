"""Tickets: the state that a run starts from, and the files that masks, states and exported tickets are.

`starts` makes the state of each kind of ticket (paper, section 3). `headers` reads the header of a safetensors file
strictly; `masks` and `ticketfiles` stand on it without torch, `tensorfiles` writes and reads tensors.
"""
