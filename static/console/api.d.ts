/** What the console's API answers: gateway/http/console_view.py writes it. Instants are ISO 8601. */

export interface Fate {
  destination: string
  state: string
  reason: string | null
  detail: string
  at: string | null
  nextAt: string | null
  explanation: string
  deadLetter: string | null
  handled: Handling | null
}

export interface Handling {
  deed: string
  at: string
  replay: string | null
  explanation: string
}

export interface Event {
  place: string
  takenAt: string
  site: string
  type: string
  id: string
  label: string
  copyOf: string | null
  change: number
  outcomes: Fate[]
}

/** Of what is no event there is `raw` alone. */
export interface Receipt {
  raw?: string
  happenedAt?: string
  receivedAt?: string
  correctedTime?: string
  consent?: string
  marks?: string[]
  derived?: { kind: string, cause: string } | null
  replay?: { destination: string, of: string, number: number, askedAt: string } | null
  dedupKey?: string
  event?: object
  context?: object
}

export interface Step {
  kind: string
  destination: string
  at: string
  endpoint: string | null
  status: number | null
  text: string
  outcome: string | null
  reason: string | null
  detail: string
  nextAt: string | null
}

export interface Life extends Event {
  receipt: Receipt
  steps: Step[]
  stepsLeftOut: number
}

export interface Linked extends Event {
  happenedAt: string
  linkedBy: string[]
}

export interface Reading {
  since: string
  behind: number
  trouble: string
}

export interface Searched {
  events: Life[]
  backTo: string
  complete: boolean
  records: number
}

export interface Letter {
  id: string
  at: string
  destination: string
  site: string
  reason: string
  detail: string
  eventId: string
  eventType: string
  eventPlace: string | null
  endpoint: string | null
  status: number | null
  attempts: number
  buried: number
  state: string
  handled: Handling | null
}

export interface WholeLetter extends Letter {
  request: string
  answer: string
  event: unknown
}

export interface Trace {
  id: string
  events: Life[]
  more: boolean
  behind: Linked[]
  behindIds: Record<string, string[]>
  behindCut: boolean
  deadLetters: Letter[]
  reading: Reading
  searched: Searched | null
  paused: PausedDestination[]
}

export interface Paused {
  endpoint: string
  since: string
  detail: string
}

export interface PausedDestination extends Paused {
  destination: string
}

export interface Standing {
  destination: string
  outcomesLastHour: Record<string, number>
  waiting: number
  oldestWaitingSeconds: number | null
  paused: Paused[]
  heardSecondsAgo: number | null
  lastTrouble: { at: string, reason: string, detail: string, endpoint: string, status: number | null } | null
}

export interface Answers {
  summary: { now: string, reading: Reading, destinations: Standing[] }
  events: { events: Event[], cursor: string | null }
  tail: { events: Event[], cursor: string, paused: PausedDestination[] }
  trace: Trace
  'dead-letters': { deadLetters: Letter[], cursor: string | null }
}
