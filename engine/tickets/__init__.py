"""Tickets: the initial state of a run, and the files of masks, states and exported tickets.

`starts` makes the state of each kind of ticket (paper, section 3). `headers` reads the header of a safetensors file
strictly; `masks` and `ticketfiles` use it without torch. `tensorfiles` writes and reads tensors.
"""
