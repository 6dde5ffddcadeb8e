"""Networks: which are built in, a person's own with its hash and whether it may run here, building one, and looking
at one in a process of its own.

`catalog`, `user_model` and `trust` say what a network is and import no torch; `architectures`, `nets` and `probe`
build.
"""
