"""The machine: cockpit's processes, devices and their load, memory, plug-ins, paths that users type, and importing
torchvision. It imports only `engine.errors`.
"""
