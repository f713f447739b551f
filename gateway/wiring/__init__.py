"""The composition root: builds every part from the settings, runs and ends them."""
