"""The machine: processes of this program, devices and how busy they are, paths that a person names, and importing
torchvision.

Only `engine.errors` lies below.
"""
