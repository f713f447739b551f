"""Everything that can go wrong, drawn from a seed; and the account of every event after it."""
