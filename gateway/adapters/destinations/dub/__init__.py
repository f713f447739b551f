"""Dub: leads, sales and customers, one request each, to its conversion API, in two dialects."""
