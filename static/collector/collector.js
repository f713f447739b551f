/**
 * The collector: sends a storefront's events to the gateway, and loses none that it can keep.
 *
 *     <script async src="https://shop.example/collector.js" data-key="pk_shop"></script>
 *
 * Options (the tag's data attributes), commands and outcomes: `gateway.d.ts`.
 *
 * The path of an event: a command -> `track` gives it id, time and the context it happens in ->
 * `keep` stores what consent allows of it -> `flush` sends what is due, in one request -> the
 * answer settles it, or it stays and is sent again under the same id. With full consent it is kept
 * in localStorage, one name an event, so that tabs never overwrite one another and the next page
 * carries on; otherwise in this page's memory, which has the same shape: an object of strings.
 */

/** @typedef {import('./gateway.d.ts').Consent} Consent */
/** @typedef {import('./gateway.d.ts').Options} Options */
/** @typedef {import('./gateway.d.ts').Outcome} Outcome */
/** @typedef {Record<string, any>} Fields */
/**
 * @typedef {object} Bookkeeping
 * @property {number} [seen] when the session's latest event happened
 * @property {boolean} [fresh] the session has had no product event yet
 * @property {string} [told] the ids that the gateway has been told belong together
 * @property {Fields[]} [views] product events from before the contact was known
 * @property {Fields} [cart] the latest cart, unless it was emptied
 */
/** @typedef {Bookkeeping & Fields} State what is remembered: the rest goes out with each event */
/** @typedef {[lease: number, allowed: Consent, event: Fields]} Entry an event that waits */
/** @typedef {Record<string, [field: string, limit: number]>} Parameters */

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const SESSION_IDLE = HOUR / 2;
const LONGEST_WAIT = HOUR / 2;
/** Events of one moment go together. */
const GATHER = SECOND / 20;
/** Below the gateway's window of 24 h: an older event could be counted twice. */
const AGE_LIMIT = 23 * HOUR;
/** While a page waits for an answer, others leave its events alone; it may have gone. */
const LEASE = 15 * SECOND;
/** The browser allows 64 KiB of keepalive bodies in flight, for this page's scripts together. */
const FLIGHT_BYTES = 48e3;
const KEEPALIVE_BYTES = 6e4;
/** In localStorage, which has room for about five million. */
const KEPT_CHARACTERS = 5e5;
/** As many as a request may hold. */
const KEPT_EVENTS = 500;
const KEPT_VIEWS = 25;

/** Texts that are shortened to what the gateway takes, in characters. An id is never cut. */
const TEXTS = /** @type {Record<string, number>} */ ({
  title: 500,
  category: 500,
  eventName: 255,
  leadEventName: 255,
  customerName: 100,
  url: 2048,
  referrer: 2048,
  language: 35,
});

/** How fields begin that may identify a person: never sent without full consent. */
const PERSONAL =
  /^(customer|visitor|session|newSession|contact|eclub|click|adClick|mail|country|stripe|metadata|recent)/;
/** gclid, fbclid, msclkid, gbraid and their like; then those that are like no other. */
const AD_CLICK = /^(\w{0,26}(clk?id|braid)|gclsrc|li_fat_id|igshid|rdt_cid|epik|sccid|_kx)$/i;

// Pure parts

/**
 * A UUIDv7, so that ids sort by time. Of its 74 random bits 2 stay fixed.
 * @param {number} now milliseconds
 */
export const uuid = (now) =>
  ((0 + now.toString(16)).replace(/.{8}/, '$&-') + '-7xxx-8xxx-xxxxxxxxxxxx').replace(
    /x/g,
    () => (crypto.getRandomValues(new Uint8Array(1))[0] & 15).toString(16),
  );

/**
 * The first characters, counted as the gateway does: a surrogate pair is one, and is not split.
 * What is no text stays as it is, for the gateway to refuse.
 * @param {any} text
 * @param {number} limit
 */
export const cut = (text, limit) =>
  text?.replace ? [...text].slice(0, limit).join('') : text;

/**
 * Takes an address apart: without its fragment and the parameters that identify a person or a
 * click; and what those say, as fields of an event. An id over its limit is left out, for the
 * gateway would refuse every event that carried it.
 * @param {string} address
 * @param {Parameters} parameters by name, in lower case
 */
export const dissect = (address, parameters) => {
  const url = new URL(address);
  const /** @type {Fields} */ found = {};
  [...url.searchParams].forEach(([name, value]) => {
    const [field, limit] = parameters[name.toLowerCase()] || [];
    const ad = AD_CLICK.test(name);
    if (field || ad) url.searchParams.delete(name);
    if (value && value.length <= /** @type {number} */ (limit)) found[/** @type {string} */ (field)] = value;
    const group = ad ? value.length < 501 && 'adClickIds' : /^utm_\w{1,28}$/.test(name) && 'utm';
    if (value && group) {
      found[group] ||= {};
      if (Object.keys(found[group]).length < 10) found[group][name] = ad ? value : cut(value, 255);
    }
  });
  url.hash = '';
  return /** @type {[url: string, found: Fields]} */ ([url.href, found]);
};

/**
 * How long to wait after a failed try, in milliseconds: as long as the gateway asked, else doubling
 * from a second to four minutes; up to half as long again, so that browsers spread; half an hour at most.
 * @param {number} failures in a row before this one
 * @param {number} retryAfter seconds, 0 if not said
 * @param {number} random from 0 to 1
 */
export const retryDelay = (failures, retryAfter, random) =>
  Math.min(1200, retryAfter || 2 ** Math.min(8, failures)) * SECOND * (1 + random / 2);

/**
 * The milliseconds left until an instant: none if it has passed, is no number, or is further off
 * than anything is put off, for a clock that was set back must not hold events up.
 * @param {number} instant
 */
export const left = (instant, now = Date.now()) =>
  instant > now && instant - now <= LONGEST_WAIT ? instant - now : 0;

/** @param {Fields | undefined} event */
const young = (event) => Date.now() - Date.parse(event?.time) < AGE_LIMIT;

/** @type {(reason: string) => Outcome} */
const dropped = (reason) => ({ outcome: 'dropped', reason });

// The page's part

/**
 * Starts the collector: one a page.
 * @param {Options} options
 */
export const start = (options) => {
  const { key, endpoint = '/v1/events' } = options;
  const prefix = `gateway:${key}:`;
  const stateName = prefix + 'state';
  const pauseName = prefix + 'pause';
  /** Absent in a worker, such as a shop system's sandbox for pixels. */
  const page = globalThis.document;
  const auto = page && '' + options.autoPage != 'false';
  /** Of a landing link. */
  const parameters = /** @type {Parameters} */ (/** @type {any} */ ({
    __proto__: null,
    [options.clickParameter || 'dub_id']: ['clickId', 100],
    [options.mailParameter || 'mail_ref']: ['mailReference', 100],
    vtid: ['contactId', 64],
    eclub: ['eclub', 1024],
  }));
  const /** @type {Record<string, (outcome: Outcome) => void>} */ promised = {};

  let /** @type {Consent} */ consent = 'limited';
  /** The page has said what the visitor wants. Until then cookies are neither sent nor deleted. */
  let decided = false;
  let /** @type {Record<string, string>} */ store = {};
  let /** @type {State} */ state = {};
  let /** @type {Fields} */ profile = {};
  let debug = options.debug != null;
  let clock = 0;
  let here = '';
  let inFlight = 0;
  let failures = 0;
  let /** @type {any} */ timer;

  /** @param {unknown[]} words */
  const log = (...words) => {
    if (debug) console.warn('gateway:', ...words);
  };

  /**
   * Runs something of ours, so that nothing it throws reaches the page.
   * @template T
   * @param {() => T} action
   */
  const safely = (action) => {
    try {
      return action();
    } catch (error) {
      // Rubbish from the page, or a browser that lacks something: this one thing is not done.
      log(error);
    }
  };

  // What is kept

  /** The browser's storage; an empty object where it is blocked. */
  const device = () => /** @type {Record<string, string>} */ (safely(() => localStorage) || {});

  /** @param {string} name */
  const read = (name) => safely(() => JSON.parse(store[name] || 'null'));

  /**
   * @param {string} name
   * @param {string} text
   */
  const put = (name, text) => {
    try {
      store[name] = text;
    } catch (error) {
      // Storage is full: from here on this page's memory must do. What is stored stays there for
      // the next page; sent twice under one id, it counts once.
      log(error);
      store = { ...store, [name]: text };
    }
  };

  /** The names of events that wait, oldest first. Ids begin with 0 until the year 2527. */
  const waiting = (place = store) =>
    Object.keys(place)
      .filter((name) => name.startsWith(prefix + 0))
      .sort();

  /**
   * It is known what became of an event.
   * @param {string} name
   * @param {Outcome} outcome
   */
  const settle = (name, outcome) => {
    log(outcome, store[name]);
    delete store[name];
    promised[name]?.(outcome);
    delete promised[name];
  };

  /**
   * @param {number} lease
   * @param {Consent} allowed
   * @param {Fields} event
   */
  const keep = (lease, allowed, event) => {
    const name = prefix + event.id;
    const full = /full|wait/.test(allowed);
    // Without full consent nothing is left of a customer.
    if (allowed == 'none' || (!full && event.type == 'customer')) settle(name, dropped('consent'));
    else
      put(
        name,
        JSON.stringify([lease, allowed, event], (field, value) =>
          full || !PERSONAL.test(field) ? value : undefined,
        ),
      );
  };

  // Sending

  /** @param {number} delay milliseconds */
  const schedule = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(() => safely(flush), delay);
  };

  /**
   * Says until when entries are left to the page that sends them. One that is gone stays gone.
   * @param {string[]} names
   * @param {number} until
   */
  const lease = (names, until) =>
    names.forEach((name) => {
      // An entry's text begins with its lease.
      if (store[name]) put(name, store[name].replace(/\d+/, '' + until));
    });

  /**
   * @param {string[]} names
   * @param {Fields[]} events
   * @param {Consent} allowed
   * @param {number} size bytes
   */
  const send = async (names, events, allowed, size) => {
    // A text is sent as text/plain, which needs no preflight.
    const body = JSON.stringify({ key, sentAt: new Date(), context: { consent: allowed }, events });
    let retryAfter = 0;
    let done;
    inFlight += size;
    lease(names, Date.now() + LEASE);
    try {
      const answer = await (safely(() =>
        fetch(endpoint, {
          method: 'POST',
          body,
          // The request outlives the page.
          keepalive: size < KEEPALIVE_BYTES,
          credentials: decided ? 'include' : 'omit',
        }),
      ) || // No fetch here. A beacon is the last resort, for a blocked one says that it was sent.
        /** @type {any} */ ({ status: navigator.sendBeacon(endpoint, body) ? 204 : 0, text: String }));
      // Read to its end: in Chromium, an unread one may hold its share of the keepalive quota.
      const text = await answer.text();
      const { status } = answer;
      const { results, ...problem } = safely(() => JSON.parse(text || '{}')) || {};
      retryAfter = +answer.headers?.get('Retry-After') || 0;
      // A 200 that is not the gateway's is no answer.
      done = results || /204|4(?!08|29)/.test(status);
      if (done) {
        failures = 0;
        names.forEach((name, index) => {
          // Something made the whole request unreadable: each goes alone, and one is refused.
          if (status == 400 && names[1]) send([name], [events[index]], allowed, 0);
          else
            settle(
              name,
              results?.[index] || { outcome: status == 204 ? 'accepted' : 'rejected', ...problem },
            );
        });
      }
    } catch (error) {
      // No answer: in doubt, so again under the same ids.
      log(error);
    }
    inFlight -= size;
    if (!done) {
      lease(names, 0);
      put(pauseName, '' + (Date.now() + retryDelay(failures++, retryAfter, Math.random())));
    }
    schedule(0);
  };

  /** @param {boolean} [leaving] the page may never run again */
  const flush = (leaving) => {
    // What only this page's memory holds goes now or never.
    const pause = leaving && store != device() ? 0 : left(+store[pauseName]);
    const /** @type {string[]} */ names = [];
    const /** @type {Fields[]} */ events = [];
    let /** @type {any} */ together;
    let next = LONGEST_WAIT;
    let room = KEPT_CHARACTERS;
    let size = inFlight;
    waiting()
      .reverse()
      .filter((name, newer) => {
        const fits = newer < KEPT_EVENTS && (room -= store[name].length) > 0;
        if (!fits) settle(name, dropped('no_room'));
        return fits;
      })
      .reverse()
      .forEach((name) => {
        const [leased, allowed, event] = /** @type {Entry} */ (read(name) || []);
        const length = new Blob([store[name]]).size;
        if (!young(event)) settle(name, dropped('too_old'));
        else if (left(leased) || pause) next = Math.min(next, left(leased) || pause);
        else if (
          allowed != 'wait' &&
          allowed == (together ||= allowed) &&
          (!size || size + length < FLIGHT_BYTES)
        ) {
          size += length;
          names.push(name);
          events.push(event);
        }
      });
    if (names[0]) send(names, events, together, size - inFlight);
    // Not at the instant that other tabs chose too.
    if (next < LONGEST_WAIT) schedule(next + Math.random() * SECOND);
  };

  // Events

  /** What is known of the visitor, without the bookkeeping. */
  const known = () => {
    const { seen, fresh, told, views, cart, ...context } = state;
    return context;
  };

  /**
   * An event happens: never two at one instant, for a cart's time tells its states apart. Begins a
   * session where none is, or the last has been idle for too long.
   */
  const touch = () => {
    clock = Math.max(Date.now(), clock + 1);
    state.visitorId ||= uuid(clock);
    if (!(clock - /** @type {number} */ (state.seen) < SESSION_IDLE)) {
      const referrer = page?.referrer;
      const external = /^http/.test(referrer) && new URL(referrer).host != location.host;
      state.sessionId = uuid(clock);
      state.fresh = true;
      state.referrer = external ? dissect(referrer, parameters)[0] : undefined;
      state.utm = undefined;
    }
    state.seen = clock;
  };

  /**
   * @param {string} type
   * @param {Fields} [fields]
   * @returns {Promise<Outcome>}
   */
  const track = (type, fields) =>
    new Promise((resolve) => {
      touch();
      const { views = [], cart } = state;
      const id = uuid(clock);
      const time = new Date(clock);
      const language = options.language || page?.documentElement.lang || undefined;
      const title = type == 'page' && page ? page.title : undefined;
      // A cart's address is the link back to it.
      const url = type == 'cart' ? undefined : here || undefined;
      const /** @type {Fields} */ event = { ...known(), language, title, url, ...fields, type, id, time };
      for (const name in TEXTS) event[name] = cut(event[name], TEXTS[name]);
      if (type == 'product' && consent != 'limited') {
        if (state.fresh) event.newSession = true;
        state.fresh = false;
        const { itemId, category, url } = event;
        if (!state.contactId && !state.eclub)
          state.views = [...views, { id, time, itemId, category, url }].slice(-KEPT_VIEWS);
      }
      if (type == 'cart') state.cart = event.items[0] && { ...fields, time };
      if (type == 'sale' && cart?.cartReference == event.cartReference) state.cart = undefined;
      promised[prefix + id] = resolve;
      keep(0, consent, event);
    });

  /** Once it is known who this is, tells so: with the views from before, and the cart again. */
  const introduce = () => {
    const { customerId, contactId, eclub, views = [], cart } = state;
    const ids = '' + [customerId, contactId, eclub];
    if (ids == ',,' || ids == state.told || !/full|wait/.test(consent)) return;
    const contact = contactId || eclub;
    const recent = views.filter(young);
    state.told = ids;
    if (contact) state.views = undefined;
    const outcome = track('customer', { ...profile, recent: contact && recent[0] ? recent : undefined });
    if (contact && young(cart)) track('cart', cart);
    return outcome;
  };

  /**
   * Looks at the address: a landing link says who this is, and each address is a page view.
   * @param {any} [again] even if it has not changed
   * @param {string} [address] where the page knows better
   */
  const look = (again, address = page && location.href) => {
    if (!address) return;
    const [url, found] = dissect(address, parameters);
    if (url == here && !again) return;
    touch();
    if (url != here) Object.assign(state, found);
    here = url;
    if (options.cleanAddress != null) history.replaceState(history.state, '', url + location.hash);
    if (auto) track('page');
    introduce();
  };

  // Commands

  const commands = /** @type {Record<string, (fields: any) => any>} */ ({
    debug: (on) => {
      debug = on !== false;
    },

    consent: (choice) => {
      const before = consent;
      const memory = store;
      const kept = device();
      decided = true;
      consent = /^(full|none|wait)$/.test(choice) ? choice : 'limited';
      if (consent == 'full' && globalThis.navigator?.globalPrivacyControl) consent = 'limited';
      store = {};
      if (consent == 'full') {
        store = kept;
        // The browser's visitor and session go on; what this page has learnt is newer.
        const { visitorId, sessionId, seen, fresh, ...learnt } = state;
        state = { ...state, ...read(stateName), ...learnt };
      } else {
        // What asks the gateway to delete its cookies: an event that it drops.
        if (kept[stateName])
          put(prefix + uuid(Date.now()), JSON.stringify([0, 'none', { time: new Date() }]));
        state = before == 'full' ? {} : { ...state, views: undefined };
      }
      waiting(memory).forEach((name) => {
        const [leased, allowed, event] = JSON.parse(memory[name]);
        if (event.type) keep(leased, consent == 'full' && allowed != 'wait' ? allowed : consent, event);
      });
      if (consent != 'full')
        Object.keys(kept).forEach((name) => name.startsWith(prefix) && delete kept[name]);
      // The page was not counted yet.
      if (before == 'none' && here) look(true);
      introduce();
    },

    identify: (fields) => {
      look();
      profile = {};
      Object.entries(fields).forEach(([name, value]) => {
        if (!/Id$|eclub|Reference/.test(name)) profile[name] = value;
        else if (value !== undefined) state[name] = value ? '' + value : null;
      });
      return introduce();
    },

    ids: () => (consent == 'full' ? known() : {}),

    reset: () => {
      const outcome = state.cart && track('cart', { ...state.cart, items: [] });
      // null, for the gateway's cookie may still know the contact.
      state = { contactId: null };
      profile = {};
      return outcome;
    },
  });

  /**
   * Does something with what is remembered, and remembers what it changed.
   * @param {() => any} action
   */
  const run = (action) => {
    try {
      const kept = read(stateName);
      // Another tab has withdrawn.
      if (!kept && consent == 'full') commands.consent('limited');
      state = { ...kept };
      const result = action();
      put(stateName, JSON.stringify(state));
      schedule(GATHER);
      return result;
    } catch (error) {
      log(error);
      return { outcome: 'dropped', message: '' + error };
    }
  };

  /**
   * @param {string} command
   * @param {any} [fields]
   */
  const gateway = async (command, fields) =>
    run(() => {
      if (commands[command]) return commands[command](fields);
      if (typeof fields == 'function') fields = fields(state.cart);
      look(0, auto || command == 'cart' ? undefined : fields?.url);
      // An event, or a slip of the pen: the gateway knows, and says so to the operator too.
      return track(command, fields);
    });

  // The page's calls so far, and its life

  const begin = () => {
    const { q = [] } = /** @type {any} */ (globalThis.gateway) || {};
    const said = options.consent;
    globalThis.gateway = Object.assign(gateway, { key });
    if (device()[stateName] && !/limited|none/.test('' + said)) gateway('consent', 'full');
    else if (said == 'full') gateway('consent', said);
    // Less than full consent in the tag erases nothing: the page may be about to say more.
    else consent = said || 'limited';
    [...q].forEach((call) => gateway(.../** @type {[string]} */ (call)).then(call.r));
    arrive();
    safely(listen);
  };

  /** @param {any} [event] where it is persisted, the page comes back as it was left */
  const arrive = (event) => {
    run(() => look(event?.persisted));
  };

  /**
   * @param {string} type
   * @param {(event: any) => any} listener
   */
  const on = (type, listener) => addEventListener(type, (event) => safely(() => listener(event)), true);

  const listen = () => {
    // Never `unload`: it keeps the page out of the browser's cache, and Safari does not fire it.
    on('pagehide', () => flush(true));
    on('visibilitychange', () => flush(true));
    on('pageshow', arrive);
    on('popstate', arrive);
    on('online', () => {
      delete store[pauseName];
      schedule(0);
    });
    on('click', ({ target }) => {
      const { gatewayEvent, ...attributes } = target.closest('[data-gateway-event]')?.dataset || {};
      if (!gatewayEvent) return;
      const /** @type {Fields} */ fields = {};
      Object.entries(attributes).forEach(([name, value]) => {
        const [, first, rest] = /^gateway(.)(.+)/.exec(name) || [];
        const field = first && first.toLowerCase() + rest;
        if (field)
          fields[field] = /amount|Quantity|items|metadata/.test(field) ? JSON.parse(value) : value;
      });
      gateway(gatewayEvent, fields);
    });
    ['pushState', 'replaceState'].forEach((name) => {
      const { [name]: change } = /** @type {any} */ (history);
      /** @type {any} */ (history)[name] = (/** @type {any[]} */ ...how) => {
        change.apply(history, how);
        // Later, for the page's title follows.
        setTimeout(arrive);
      };
    });
  };

  // Two tags on a page would count everything twice.
  if (!(/** @type {any} */ (globalThis.gateway)?.key)) {
    // A page rendered ahead of a visit that may never come counts when it is visited.
    if (page?.prerendering) page.addEventListener('prerenderingchange', begin, { once: true });
    else begin();
  }
};

const script = /** @type {HTMLScriptElement | undefined} */ (globalThis.document?.currentScript);
if (script)
  start({ endpoint: new URL('/v1/events', script.src).href, .../** @type {any} */ (script.dataset) });
