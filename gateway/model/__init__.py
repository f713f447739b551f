"""Pure values and arithmetic: no IO, no clock."""
