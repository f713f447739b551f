// The console's page. Everything that it shows came from browsers and destinations, so it is
// hostile: it is put into text nodes only, and links are made of encoded ids, never of addresses.

/** @import { Answers, Event, Fate, Letter, Life, Standing, Step, Trace, WholeLetter } from './api' */
/** @typedef {string | Node | null | undefined} Child an empty one is left out */

const TOKEN = 'gateway-console-token'
const ROWS = 300
const WAIT_SECONDS = 20
const SUMMARY_SECONDS = 5
const SILENT_SECONDS = 150
const STATES = ['waiting', 'delivered', 'duplicate', 'superseded', 'skipped', 'unattributed', 'dead']
const TYPES = ['page', 'product', 'cart', 'lead', 'sale', 'customer', 'custom', 'mail_visit', 'mail_order', 'unreadable']
/** @type {Record<string, string>} */
const MOODS = { delivered: 'good', dead: 'bad', waiting: 'wait', unattributed: 'wait' }

/** @param {string} id @returns {any} the element: the page has all that are asked for here */
const $ = (id) => document.getElementById(id)
/** @type {HTMLElement} */
const main = $('main')

/** @param {ParentNode} where @param {string} selector @returns {any[]} elements of the sort that it selects */
const all = (where, selector) => [...where.querySelectorAll(selector)]

/**
 * Makes an element; children are nodes or text, nothing is ever read as HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} props
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function el (tag, props = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue
    if (name === 'on') for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener)
    else node.setAttribute(name === 'cls' ? 'class' : name, value === true ? '' : String(value))
  }
  for (const child of children) if (child !== null && child !== undefined && child !== '') node.append(child)
  return node
}

// Asking.

class RefusedError extends Error {
  /** @param {number} status @param {string} message */
  constructor (status, message) { super(message); this.status = status }
}

/**
 * @template {keyof Answers} Path
 * @param {Path} path
 * @param {Record<string, any>} params
 * @param {AbortSignal} [signal]
 * @returns {Promise<Answers[Path]>}
 */
function ask (path, params = {}, signal) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value))
  return answered(`api/${path}?${query}`, { signal, cache: 'no-store' })
}

/**
 * @param {string} done
 * @param {string[]} ids
 * @returns {Promise<{results: {id: string, outcome: string, detail: string, replay: string | null}[]}>}
 */
function have (done, ids) {
  const headers = { 'Content-Type': 'application/json' }
  return answered(`api/dead-letters/${done}`, { method: 'POST', headers, body: JSON.stringify({ ids }) })
}

/**
 * @param {string} address
 * @param {RequestInit} options
 */
async function answered (address, options) {
  const token = sessionStorage.getItem(TOKEN)
  const headers = { .../** @type {Record<string, string>} */ (options.headers), ...(token ? { Authorization: `Bearer ${token}` } : {}) }
  const answer = await fetch(address, { ...options, headers })
  const told = await answer.json().catch(() => ({ message: `status ${answer.status}` }))
  if (answer.ok) return told
  if (answer.status === 401) {
    $('token-form').hidden = false
    $('token').focus()
  }
  throw new RefusedError(answer.status, told.message)
}

/**
 * @param {string} text
 * @param {string} kind
 */
function notice (text, kind = 'trouble') {
  $('notice').textContent = text
  $('notice').dataset.kind = kind
  $('notice').hidden = !text
}

/** @param {any} error */
function failed (error) {
  if (error.name === 'AbortError') return
  if (error instanceof RefusedError) notice(error.message)
  else notice('The console does not answer. Is “gateway run” (or “gateway console”) running?')
}

/** @param {number} seconds @param {AbortSignal} [signal] */
const pause = (seconds, signal) => /** @type {Promise<void>} */ (new Promise((resolve) => {
  const timer = setTimeout(resolve, seconds * 1000)
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve() }, { once: true })
}))

// Words.

/** @param {string} iso */
function when (iso) {
  const date = new Date(iso)
  const today = date.toDateString() === new Date().toDateString()
  const time = date.toLocaleTimeString('en-GB') + '.' + String(date.getMilliseconds()).padStart(3, '0')
  const day = today ? '' : `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')} `
  return el('time', { datetime: iso, title: iso }, day + time)
}

/** @param {number} seconds */
function age (seconds) {
  if (seconds < 1) return 'under 1 s'
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} days`
}

/**
 * Text in which instants are told in the reader's own time.
 * @param {string} text
 */
function prose (text) {
  const parts = text.split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)/)
  return el('span', {}, ...parts.map((part, index) => index % 2 && !Number.isNaN(Date.parse(part)) ? when(part) : part))
}

/**
 * What is to be said of a fate beside its word.
 * @param {Fate} fate
 */
const because = (fate) => fate.at ? [fate.reason, fate.detail].filter(Boolean).join(': ') : prose(fate.explanation)

/** @param {string | null} state */
const mood = (state) => MOODS[state ?? ''] ?? 'calm'
/** @param {string | null} state */
const word = (state) => el('span', { cls: `word ${mood(state)}` }, state)
/** @param {string} id @param {string} text */
const traceLink = (id, text = id) => el('a', { href: `#trace/${encodeURIComponent(id)}` }, text)
/** @param {string} id @param {string} text */
const letterLink = (id, text) => el('a', { href: `#dead-letters/${encodeURIComponent(id)}` }, text)
/** @param {number} count @param {string} one @param {string} many */
const number = (count, one, many = one + 's') => `${count.toLocaleString('en')} ${count === 1 ? one : many}`

/**
 * @param {Fate} fate
 * @param {boolean} open
 */
function state (fate, open = false) {
  const head = el('summary', { title: fate.explanation }, el('b', {}, fate.destination), ' ', fate.state, fate.reason ? ` · ${fate.reason}` : '')
  const link = fate.deadLetter ? letterLink(fate.deadLetter, 'Dead letter') : null
  const details = el('details', { cls: `state ${mood(fate.state)}`, 'data-destination': fate.destination }, head,
    el('p', {}, prose(fate.explanation), fate.at ? ' · ' : '', fate.at ? when(fate.at) : null, link ? ' · ' : '', link))
  details.open = open
  return details
}

/** @param {unknown} value */
function pre (value) {
  return el('pre', { tabindex: '0' }, typeof value === 'string' ? value : JSON.stringify(value, null, 2))
}

/**
 * @param {string} title
 * @param {string | undefined} text
 */
function folded (title, text) {
  return text ? el('details', {}, el('summary', {}, title), pre(pretty(text))) : null
}

/**
 * Indents JSON; an excerpt that was cut, or anything else, is left as it is.
 * @param {string} text
 */
function pretty (text) {
  try { return JSON.stringify(JSON.parse(text), null, 2) } catch { return text } // Not JSON: shown as it came.
}

// The strip of destinations.

/** @param {Standing} each */
function standing (each) {
  const counts = Object.entries(each.outcomesLastHour).sort().map(([name, count]) => `${count} ${name}`).join(', ')
  const silent = each.heardSecondsAgo === null || each.heardSecondsAgo > SILENT_SECONDS
  const trouble = each.lastTrouble
  const recent = trouble !== null && Date.now() - new Date(trouble.at).getTime() < 3600_000
  const late = (each.oldestWaitingSeconds ?? 0) > 60
  let feeling = 'good'
  if (silent && !each.waiting) feeling = 'calm'
  if (late || (silent && each.waiting)) feeling = 'wait'
  if (each.outcomesLastHour.dead || each.paused.length || (recent && late)) feeling = 'bad'
  const waiting = each.waiting || each.oldestWaitingSeconds !== null
    ? `${each.waiting.toLocaleString('en')} waiting` + (each.oldestWaitingSeconds !== null ? `, oldest ${age(each.oldestWaitingSeconds)}` : '')
    : 'nothing waiting'
  const heard = each.heardSecondsAgo === null ? 'never heard of: does deliver run?' : `silent for ${age(each.heardSecondsAgo)}: does deliver run?`
  return el('article', { cls: 'standing', 'data-mood': feeling, 'data-destination': each.destination },
    el('h2', {}, each.destination),
    el('p', { cls: late ? 'warn' : '' }, waiting),
    el('p', {}, counts ? `Last hour: ${counts}` : 'No outcome in the last hour'),
    silent ? el('p', { cls: 'warn' }, heard) : null,
    ...each.paused.map((held) => el('p', { cls: 'trouble whole', role: 'alert' }, el('b', {}, 'Paused: '), `${held.endpoint} since `, when(held.since), `, as by a wrong setting (${held.detail}). Nothing is lost: mend address or key and restart; it also tries again every few minutes.`)),
    trouble ? el('p', { cls: recent ? 'trouble' : '', title: trouble.detail }, 'Last error ', when(trouble.at), ': ', [trouble.status, trouble.reason, trouble.detail].filter(Boolean).join(' · ')) : null)
}

async function summarise () {
  for (;;) {
    if (!document.hidden && $('token-form').hidden) {
      try {
        const told = await ask('summary')
        $('destinations').replaceChildren(...told.destinations.map(standing))
        const { trouble, behind } = told.reading
        if (trouble) notice(`The console cannot read on: ${trouble}`)
        else if (behind > 1000) notice(`The console is still reading the logs: ${number(behind, 'record')} to go. What is missing here may just not be read yet.`, 'note')
        else notice('')
      } catch (error) { failed(error) }
    }
    await pause(SUMMARY_SECONDS)
  }
}

// Events as they come.

/**
 * @param {string} name
 * @param {string} label
 * @param {string[]} options
 * @param {Record<string, string>} filters
 * @param {() => void} go
 */
function select (name, label, options, filters, go) {
  const input = el('select', { name, on: { change: () => { filters[name] = input.value; go() } } },
    el('option', { value: '' }, 'any'), ...options.map((each) => el('option', { value: each }, each)))
  input.value = filters[name] ?? ''
  return el('label', {}, label, input)
}

/** @param {Event} event */
function eventRow (event) {
  const id = event.id || event.place
  return el('tr', { 'data-place': event.place },
    el('td', { cls: 'time' }, when(event.takenAt)),
    el('td', {}, event.type), el('td', {}, event.site),
    el('td', { cls: 'what' }, event.label),
    el('td', { cls: 'id' }, traceLink(id), event.copyOf ? el('div', { cls: 'soft' }, 'copy of ', traceLink(event.copyOf)) : null),
    el('td', { cls: 'fate' }, states(event)))
}

/**
 * @param {Event} event
 * @param {Set<string>} open
 */
function states (event, open = new Set()) {
  if (!event.outcomes.length) return el('span', { cls: 'soft' }, 'no destination takes it')
  return el('div', { cls: 'states' }, ...event.outcomes.map((fate) => state(fate, open.has(fate.destination))))
}

/**
 * @param {HTMLTableSectionElement} body
 * @param {Event} event
 * @param {boolean} isNew
 */
function upsert (body, event, isNew) {
  const old = [...body.rows].find((row) => row.dataset.place === event.place)
  if (old) {
    const open = new Set(all(old, 'details[open]').map((each) => each.dataset.destination))
    old.querySelector('.fate')?.replaceChildren(states(event, open))
    return
  }
  const row = eventRow(event)
  if (!isNew) return body.append(row)
  row.classList.add('new')
  const time = event.takenAt
  body.insertBefore(row, [...body.rows].find((each) => (each.querySelector('time')?.dateTime ?? '') <= time) ?? null)
  while (body.rows.length > ROWS) body.deleteRow(-1)
}

/** @type {Record<string, string>} */
const eventFilters = {}

/** @param {AbortSignal} signal */
async function showEvents (signal) {
  const names = all(document, '.standing').map((each) => each.dataset.destination)
  if (!names.length) names.push(...(await ask('summary', {}, signal)).destinations.map((each) => each.destination))
  const again = () => route()
  const body = el('tbody')
  const empty = el('p', { cls: 'empty' }, 'No event yet. As soon as one is accepted it appears here.')
  const older = el('button', { hidden: true }, 'Older events')
  main.replaceChildren(
    el('div', { cls: 'bar' }, select('type', 'Type', TYPES, eventFilters, again),
      select('destination', 'Destination', names, eventFilters, again),
      select('outcome', 'Outcome', STATES, eventFilters, again)),
    el('div', { cls: 'table' }, el('table', {}, el('thead', {}, el('tr', {}, ...['Taken', 'Type', 'Site', 'What', 'Id', 'Outcomes'].map((each) => el('th', { scope: 'col' }, each)))), body), empty),
    el('p', {}, older))
  const begin = await ask('tail', { limit: 1 }, signal)
  /** @type {string | null} */
  let cursor = null
  const page = async () => {
    const told = await ask('events', { ...eventFilters, after: cursor, limit: 50 }, signal)
    for (const event of told.events) upsert(body, event, false)
    cursor = told.cursor
    older.hidden = !cursor
    empty.hidden = body.rows.length > 0
  }
  older.addEventListener('click', () => page().catch(failed))
  await page()
  follow(begin.cursor, (event) => { upsert(body, event, true); empty.hidden = true }, signal)
}

/**
 * @param {string} cursor
 * @param {(event: Event) => void} take
 * @param {AbortSignal} signal
 */
async function follow (cursor, take, signal) {
  live('live')
  while (!signal.aborted) {
    try {
      const told = await ask('tail', { ...eventFilters, after: cursor, wait: WAIT_SECONDS }, signal)
      live('live')
      cursor = told.cursor
      for (const event of told.events) take(event)
    } catch (error) {
      if (signal.aborted) return
      live('lost')
      failed(error)
      await pause(3, signal)
    }
  }
}

/** @param {'live' | 'lost' | ''} now */
function live (now) {
  $('live').dataset.state = now
  $('live').textContent = { live: 'live', lost: 'not live', '': '' }[now]
}

// One life.

/**
 * @param {string} id
 * @param {AbortSignal} signal
 */
async function showTrace (id, signal) {
  $('id').value = id
  main.replaceChildren(el('p', { cls: 'empty' }, 'Looking…'))
  let shown = ''
  while (!signal.aborted) {
    const trace = await ask('trace', { id }, signal)
    const { events, deadLetters } = trace
    const text = JSON.stringify([events, deadLetters])
    if (text !== shown) { paint(trace, signal); shown = text }
    const waits = events.some((each) => each.outcomes.some((fate) => fate.state === 'waiting'))
    if (!waits && shown) return
    await pause(3, signal)
  }
}

/**
 * @param {Trace} trace
 * @param {AbortSignal} signal
 */
function paint (trace, signal) {
  const cards = [...trace.events, ...(trace.searched?.events ?? [])].map(life)
  const rejected = trace.deadLetters.filter((each) => each.destination === 'ingest')
  const open = new Set(all(main, 'details[open]').map((each) => each.dataset.key))
  main.replaceChildren(
    el('h2', {}, 'Trace of ', el('span', { cls: 'mono' }, trace.id)),
    ...rejected.map((each) => el('section', { cls: 'card' },
      el('h2', {}, word('dead'), ' rejected when it was posted, ', when(each.at)),
      el('p', {}, `${each.reason}: ${each.detail} · `, letterLink(each.id, 'what was posted')))),
    ...story(trace), ...cards, reach(trace, cards.length + rejected.length, signal))
  for (const each of all(main, 'details[data-key]')) each.open = open.has(each.dataset.key)
}

/**
 * What led to a sale, from the mailbox on.
 * @param {Trace} trace
 */
function story (trace) {
  if (!trace.behind.length) return []
  const rows = trace.behind.map((each) => el('tr', {},
    el('td', {}, when(each.happenedAt)), el('td', {}, each.type),
    el('td', {}, traceLink(each.id)),
    el('td', {}, each.label), el('td', { cls: 'soft' }, 'by ' + each.linkedBy.join(', '))))
  return [el('section', { cls: 'card' }, el('h2', {}, 'Behind the sale'),
    el('p', { cls: 'soft' }, ...ids(trace.behindIds)),
    el('table', {}, el('tbody', {}, ...rows)),
    trace.behindCut ? el('p', { cls: 'soft' }, 'And more: some of these ids are shared by many events.') : '')]
}

/**
 * By which ids a story is linked; of many in one field, a few.
 * @param {Record<string, string[]>} byField
 */
function ids (byField) {
  return Object.entries(byField).flatMap(([field, values]) => [
    `${field} `, ...values.slice(0, 3).flatMap((value) => [traceLink(value), ' ']),
    values.length > 3 ? `and ${values.length - 3} more ` : ''])
}

/**
 * Says what was looked through, so that “nothing found” is never a riddle.
 * @param {Trace} trace
 * @param {number} found
 * @param {AbortSignal} signal
 */
function reach (trace, found, signal) {
  const told = []
  if (!found) {
    told.push(el('p', {}, el('b', {}, 'Nothing found. '), 'Either it was never accepted (the answer to the post says so: 2xx, and for rejected events why), or consent was “none”, or it is older than what was looked through, or the id is written differently.'))
  }
  const { since, behind } = trace.reading
  told.push(el('p', { cls: 'soft' }, 'The index reaches back to ', when(since), behind ? ` and is ${number(behind, 'record')} behind the logs.` : ' and is up to date.', trace.more ? ' There are more events with this id than are shown.' : ''))
  const searched = trace.searched
  if (searched) told.push(el('p', { cls: 'soft' }, `Read ${number(searched.records, 'record')} of the logs beyond it, back to `, when(searched.backTo), searched.complete ? ': all that there is.' : ': stopped there, for a question may read no more.'))
  if (!searched?.complete) {
    /** @type {HTMLButtonElement} */
    const more = el('button', { on: { click: () => deeper(trace, more, signal) } }, searched ? 'Read further back' : 'Read the logs before that too')
    told.push(more)
  }
  return el('div', { cls: 'card' }, ...told)
}

/**
 * @param {Trace} trace
 * @param {HTMLButtonElement} button
 * @param {AbortSignal} signal
 */
async function deeper (trace, button, signal) {
  button.disabled = true
  button.textContent = 'Reading the logs…'
  try {
    const before = trace.searched?.backTo ?? trace.reading.since
    const told = await ask('trace', { id: trace.id, before }, signal)
    told.searched?.events.unshift(...(trace.searched?.events ?? []))
    paint(told, signal)
  } catch (error) { failed(error); button.disabled = false }
}

/** @param {Life} event */
function life (event) {
  const receipt = event.receipt
  const marks = (receipt.marks ?? []).join(', ')
  const derived = receipt.derived
  return el('section', { cls: 'card', 'data-place': event.place },
    el('h2', {}, `${event.type} `, el('span', { cls: 'soft' }, event.label), ' ', el('span', { cls: 'mono soft' }, event.id || event.place)),
    event.copyOf ? el('p', { cls: 'warn' }, 'A copy: the first with the same key is ', traceLink(event.copyOf)) : null,
    derived ? el('p', {}, `Made by ingest (${derived.kind}) from `, traceLink(derived.cause)) : null,
    el('ul', { cls: 'fates' }, ...event.outcomes.map((fate) => el('li', {}, el('b', {}, fate.destination), word(fate.state),
      el('span', {}, because(fate), fate.at ? ' ' : '', fate.at ? el('span', { cls: 'soft' }, when(fate.at)) : null, fate.deadLetter ? ' · ' : '', fate.deadLetter ? letterLink(fate.deadLetter, 'dead letter') : null)))),
    event.outcomes.length ? null : el('p', { cls: 'soft' }, 'No destination of this site takes its type.'),
    el('h3', {}, 'Timeline'),
    el('ol', { cls: 'line' },
      receipt.happenedAt ? el('li', {}, when(receipt.happenedAt), 'happened, by the sender’s clock') : null,
      receipt.replay ? el('li', {}, when(receipt.replay.askedAt), `asked for as replay ${receipt.replay.number}, for ${receipt.replay.destination} alone, of `, traceLink(receipt.replay.of)) : null,
      receipt.receivedAt ? el('li', {}, when(receipt.receivedAt), `received from ${event.site}, consent ${receipt.consent}${marks ? `, marks: ${marks}` : ''}`) : null,
      el('li', { cls: 'is-good' }, when(event.takenAt), 'durable in the log at ', el('span', { cls: 'mono' }, event.place)),
      event.stepsLeftOut ? el('li', {}, `${number(event.stepsLeftOut, 'earlier step')} not shown`) : null,
      ...event.steps.map(step),
      ...event.outcomes.filter((fate) => fate.state === 'waiting').map((fate) => el('li', { cls: 'is-wait' }, el('b', {}, fate.destination), ' ', word('waiting'), fate.nextAt ? ' next attempt from ' : '', fate.nextAt ? when(fate.nextAt) : null))),
    keyed(folded('The event as it was accepted', receipt.event ? JSON.stringify({ event: receipt.event, context: receipt.context }) : receipt.raw), event.place))
}

/**
 * @param {HTMLElement | null} details
 * @param {string} key
 */
function keyed (details, key) {
  if (details) details.dataset.key = key
  return details
}

/** @param {Step} each */
function step (each) {
  const key = `${each.destination} ${each.at} ${each.kind}`
  const name = el('b', {}, each.destination)
  const made = [each.endpoint, each.status].filter((part) => part !== null).join(' → ')
  if (each.kind === 'attempt') return el('li', {}, when(each.at), name, ' request ', made, keyed(folded('Request', each.text), key))
  const result = each.kind === 'postponed' ? 'waiting' : each.outcome
  return el('li', { cls: `is-${mood(result)}` }, when(each.at), name, ' ', each.kind === 'postponed' ? el('span', { cls: 'word wait' }, 'failed') : word(each.outcome), ' ',
    [made, each.reason, each.detail].filter(Boolean).join(' · '),
    each.nextAt ? ' · next attempt from ' : '', each.nextAt ? when(each.nextAt) : null,
    keyed(folded('Answer', each.text), key))
}

// Dead letters.

/** @type {Record<string, string>} */
const letterFilters = { state: 'open' }
const LETTER_STATES = ['open', 'replayed', 'dropped']

/** @param {AbortSignal} signal */
async function showLetters (signal) {
  const names = [...new Set(all(document, '.standing').map((each) => each.dataset.destination)), 'ingest']
  const body = el('tbody')
  const empty = el('p', { cls: 'empty', hidden: true }, 'No dead letter. Good.')
  const older = el('button', { hidden: true }, 'Older dead letters')
  main.replaceChildren(
    el('div', { cls: 'bar' }, select('destination', 'Destination', names, letterFilters, () => route()),
      select('state', 'State', LETTER_STATES, letterFilters, () => route())),
    el('p', { cls: 'soft' }, 'To deliver many again, at a rate that you choose: ', el('code', {}, `gateway dead-letters replay ${letterFilters.destination ? `--destination ${letterFilters.destination}` : '--all'}`), '. One by one: open a letter.'),
    el('div', { cls: 'table' }, el('table', {}, el('thead', {}, el('tr', {}, ...['Buried', 'Destination', 'Reason', 'Why', 'Event', 'Letter'].map((each) => el('th', { scope: 'col' }, each)))), body), empty),
    el('p', {}, older))
  /** @type {string | null} */
  let cursor = null
  const page = async () => {
    const told = await ask('dead-letters', { ...letterFilters, after: cursor, limit: 50 }, signal)
    body.append(...told.deadLetters.map(letterRow))
    cursor = told.cursor
    older.hidden = !cursor
    empty.hidden = body.rows.length > 0
  }
  older.addEventListener('click', () => page().catch(failed))
  await page()
}

/** @param {Letter} letter */
function letterRow (letter) {
  return el('tr', {},
    el('td', { cls: 'time' }, when(letter.at)),
    el('td', {}, letter.destination === 'ingest' ? 'rejected at ingest' : letter.destination),
    el('td', {}, el('span', { cls: 'word bad' }, letter.reason), letter.handled ? el('div', { cls: 'soft' }, letter.handled.explanation) : null),
    el('td', { cls: 'what' }, [letter.status, letter.detail].filter(Boolean).join(' · ')),
    el('td', { cls: 'id' }, `${letter.eventType} `, letter.eventId ? traceLink(letter.eventId) : ''),
    el('td', { cls: 'id' }, letterLink(letter.id, letter.id)))
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 */
async function showLetter (id, signal) {
  /** @type {WholeLetter} */
  const letter = await answered(`api/dead-letters/${encodeURIComponent(id)}`, { signal, cache: 'no-store' })
  const event = letter.eventId || letter.eventPlace
  const facts = { Destination: letter.destination, Site: letter.site, Reason: letter.reason, Why: letter.detail, Endpoint: letter.endpoint, Status: letter.status, Attempts: letter.attempts }
  main.replaceChildren(el('section', { cls: 'card' },
    el('h2', {}, 'Dead letter ', el('span', { cls: 'mono' }, letter.id), ' ', when(letter.at)),
    el('dl', {}, ...Object.entries(facts).filter(([, value]) => value !== null && value !== '').flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))]),
      ...(event ? [el('dt', {}, 'Event'), el('dd', { cls: 'mono' }, traceLink(event))] : [])),
    decision(letter, signal),
    ...(letter.request ? [el('h3', {}, 'Request'), pre(pretty(letter.request))] : []),
    ...(letter.answer ? [el('h3', {}, 'Answer'), pre(pretty(letter.answer))] : []),
    el('h3', {}, letter.destination === 'ingest' ? 'What was posted' : 'The event'), pre(letter.event)))
}

/**
 * Says what was done about a letter, or offers it. Dropping is asked twice: it can't be undone.
 * @param {Letter} letter
 * @param {AbortSignal} signal
 */
function decision (letter, signal) {
  const told = el('p', { cls: 'soft', role: 'status' }, letter.handled ? letter.handled.explanation : 'Nothing was done about it yet.')
  if (letter.state !== 'open') return told
  /** @param {string} done @param {string} [words] */
  const act = (done, words) => async (/** @type {any} */ event) => {
    if (words && event.target.textContent !== words) { event.target.textContent = words; return }
    for (const each of all(buttons, 'button')) each.disabled = true
    try {
      const [result] = (await have(done, [letter.id])).results
      if (!signal.aborted) told.textContent = [result.outcome.replace('_', ' '), result.detail, result.replay ? `as ${result.replay}` : ''].filter(Boolean).join(': ')
      if (!['replayed', 'dropped', 'already'].includes(result.outcome)) for (const each of all(buttons, 'button')) each.disabled = false
    } catch (error) { failed(error); for (const each of all(buttons, 'button')) each.disabled = false }
  }
  const buttons = el('p', {}, el('button', { on: { click: act('replay') } }, 'Replay'), ' ', el('button', { on: { click: act('drop', 'Drop it for good') } }, 'Drop'))
  return el('div', {}, told, buttons)
}

// Which view.

let leave = new AbortController()

async function route () {
  leave.abort()
  leave = new AbortController()
  const { signal } = leave
  const [view, ...rest] = location.hash.slice(1).split('/')
  let id = ''
  try { id = decodeURIComponent(rest.join('/')) } catch { id = rest.join('/') } // A broken escape is looked up as it stands.
  for (const link of all(document, 'nav a')) {
    if (link.dataset.view === (view || 'events')) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  live('')
  notice('')
  try {
    if (view === 'trace' && id) await showTrace(id, signal)
    else if (view === 'dead-letters') await (id ? showLetter(id, signal) : showLetters(signal))
    else await showEvents(signal)
  } catch (error) {
    if (signal.aborted) return
    failed(error)
    if (error instanceof RefusedError) main.replaceChildren(el('p', { cls: 'empty' }, error.message))
  }
}

$('search').addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
  event.preventDefault()
  const id = $('id').value.trim()
  if (!id) return
  const hash = `#trace/${encodeURIComponent(id)}`
  if (location.hash === hash) route()
  else location.hash = hash
})
$('token-form').addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
  event.preventDefault()
  sessionStorage.setItem(TOKEN, $('token').value.trim())
  $('token').value = ''
  $('token-form').hidden = true
  route()
})
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || (event.target instanceof Element && event.target.closest('input, select, textarea'))) return
  event.preventDefault()
  $('id').focus()
  $('id').select()
})
addEventListener('hashchange', () => { route(); main.focus() })
route()
summarise()
