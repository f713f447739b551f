"""Where a successor resumes reading: before everything that has not been acted on."""

from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.journal import Journal
from gateway.model.journal import Answer
from tests.virtual import VirtualClock, run


def test_what_is_written_but_not_acted_on_yet_is_read_again() -> None:
    async def main() -> None:
        journal = Journal(MemoryBuffer(VirtualClock()), 0, 0)
        await journal.write(Answer("there", 0))
        with journal.hold():
            await journal.write(Answer("there", 0))
            await journal.write(Answer("there", 0))
            assert journal.resume_offset() == 1
        assert journal.resume_offset() == 3

    run(main)
