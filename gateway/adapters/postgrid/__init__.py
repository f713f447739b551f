"""PostGrid print-mail: its API, and what comes from it."""
