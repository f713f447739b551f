"""Strict local stand-ins of Voyado and Dub, with faults to switch on, and the demo storefront.

Where a stand-in is stricter than a fact known of the real service, a comment beginning with
"Stricter than known" says so at that place.
"""
