"""Networks: the built-in ones, user models with their hashes and permissions, building, and checks in a process.

`catalog`, `user_model` and `trust` give the facts of a network without torch. `architectures`, `nets` and `probe` build
networks.
"""
