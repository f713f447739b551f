"""Use case: consume, judge, batch, attempt, retry, commit or bury."""
