"""The dashboard. Only `cockpit` without arguments and `cockpit serve` import this package."""
