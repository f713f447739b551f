"""Loads and gathers the settings: the one place that reads files, environment and secrets."""
