"""The wall clock: the only place that asks what time it is."""

import time


class SystemClock:
    """The `Clock` of a running gateway."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
