"""The public, admin and console applications."""
