"""How far value networks are from the value: every design beside a Monte-Carlo estimate."""
