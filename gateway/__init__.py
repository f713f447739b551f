"""Gateway: a first-party event gateway for storefronts. The path of an event through the code.

1. The collector (`static/collector/collector.js`) posts events to `POST /v1/events`.
2. `http.public` reads the body within its bounds and hands it to `ingest`.
3. `ingest` finds the site by its key, checks each event (`model.event`, `model.intake`), drops what
   consent does not allow, drops repetitions, makes derived events, and publishes all that is left
   as envelopes (`model.envelope`) in one write to the `events` log of the buffer (`ports.Buffer`;
   `adapters.sqlite`). Only when that is durable does it answer.
4. `deliver.consume` owns partitions of `events` for one destination; `deliver.worker` reads them,
   `deliver.judge` says of each record whether it is a duplicate, superseded, skipped, or to be
   sent (`model.window`, `model.carts`); `deliver.lanes` orders what waits, `deliver.pace` the rate.
5. `adapters.destinations` make a request of a batch and read its answer; `deliver.policy` says what
   follows. Attempts and outcomes go to the `outcomes` log before anything is done about them
   (`deliver.journal`, `model.journal`), what is given up to the `dead` log; then the position is
   committed. After a crash `deliver.restore` reads from there.
6. `ledger` follows the logs and answers "what became of it?" for the console (`http.console`) and
   the commands (`cli`).

`wiring` builds all of it from `settings`. Imports point down only: contracts in `pyproject.toml`.
"""

__version__ = "0.1.0"
