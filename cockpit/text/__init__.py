"""Text on its way in and out: what states are called, characters that could command a terminal, the standard streams,
commands in messages, Rich's console, and TOML that a person wrote.

It knows nothing of experiments or the store.
"""
