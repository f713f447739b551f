"""Gateway: a first-party event gateway for storefronts."""

__version__ = "0.1.0"
