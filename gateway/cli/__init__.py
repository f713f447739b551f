"""Commands: thin; each reaches the parts through `gateway.wiring`."""
