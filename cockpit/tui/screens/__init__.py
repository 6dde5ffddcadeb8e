"""The screens of the cockpit, one a module."""
