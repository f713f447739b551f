"""A process that consumes from Kafka, for tests that freeze it: `member.py SETTINGS`, as JSON.

It commits a higher position ten times a second, and says so on the standard output:
"owns PARTITION", "committed PARTITION", "lost PARTITION", "ends PARTITION".
"""

import asyncio
import sys

from gateway.adapters.kafka import KafkaBuffer, KafkaSettings
from gateway.ports import Assignment, AssignmentLostError, BufferUnavailableError, Position

HAND_OVER_SECONDS = 10
KEEP_SECONDS = 3600
DESTINATION = "hook"


def say(what: str, assignment: Assignment) -> None:
    print(what, assignment.partition, flush=True)  # noqa: T201 - what the test reads


async def own(assignment: Assignment) -> None:
    say("owns", assignment)
    offset = 0
    while not assignment.ending.is_set():
        offset += 1
        try:
            await assignment.confirm()
            await assignment.commit(Position(offset, 0))
        except AssignmentLostError:
            say("lost", assignment)
            raise
        except BufferUnavailableError:
            continue
        say("committed", assignment)
        await asyncio.sleep(0.1)
    say("ends", assignment)


async def main(settings: KafkaSettings) -> None:
    buffer = KafkaBuffer(settings, KEEP_SECONDS, HAND_OVER_SECONDS)
    await buffer.start()
    await buffer.consume(DESTINATION, own, asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(KafkaSettings.model_validate_json(sys.argv[1])))
