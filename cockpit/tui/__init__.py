"""The terminal screens. Nothing but `cockpit` without arguments, and `cockpit serve`, imports this."""
