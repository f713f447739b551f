/**
 * Takes the calls of Dub's own script, `dubAnalytics.trackLead(…)` and `trackSale(…)`: `dub.md`.
 *
 *     <script async src="https://shop.example/adapters/dub.js"></script>
 */

import { safely } from './safely.js';

/** @typedef {import('./safely.js').Fields} Fields */

/** What each takes, under the same names; Dub ignores others, the gateway would refuse them. */
const BOTH = 'customerId clickId eventName customerName customerEmail customerAvatar metadata';
const NAMES = /** @type {Record<string, string>} */ ({
  lead: 'mode eventQuantity ',
  sale: 'amount currency invoiceId leadEventName paymentProcessor ',
});

/**
 * @param {string} command
 * @param {any} said
 */
const take = (command, said) => {
  if (command == 'ready') said();
  const type = command.slice(5).toLowerCase();
  const all = {
    ...said,
    // Dub's default, which is not the gateway's.
    customerId: said.customerExternalId || said.externalId || said.customerId,
    currency: said.currency || 'usd',
  };
  const /** @type {Fields} */ fields = {};
  // Of another command there are none: this throws, and nothing is sent.
  const names = NAMES[type].concat(BOTH).split(' ');
  names.forEach((name) => {
    // What is null or empty counts as not said, so that the collector's own click id is taken.
    if (all[name] || name == 'amount') fields[name] = all[name];
  });
  gateway(type, fields);
};

safely(() => {
  const page = /** @type {any} */ (globalThis);
  const { q = [] } = page.dubAnalytics || {};
  const dub = (page.dubAnalytics = /** @type {any} */ (safely(take)));
  ['trackClick', 'trackLead', 'trackSale'].forEach(
    (name) => (dub[name] = (/** @type {any} */ said) => dub(name, said)),
  );
  q.forEach((/** @type {any} */ call) => dub(...call));
})();
