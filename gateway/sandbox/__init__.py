"""Strict local stand-ins of Voyado and Dub, with faults to switch on."""
