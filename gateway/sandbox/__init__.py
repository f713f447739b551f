"""Strict local stand-ins of Voyado, Dub and PostGrid, with faults, and the demo storefront.

Where a stand-in is stricter than a fact known of the real service, a comment beginning with
"Stricter than known" says so at that place.
"""
