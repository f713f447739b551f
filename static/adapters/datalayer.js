/**
 * Turns what a shop pushes to its dataLayer for GA4 into events: `datalayer.md`.
 *
 *     <script async src="https://shop.example/adapters/datalayer.js" data-currency="SEK"></script>
 */

import { safely, text } from './safely.js';

/** @typedef {import('./safely.js').Fields} Fields */
/** @typedef {import('../collector/gateway.d.ts').CartItem} CartItem */

const options = /** @type {any} */ (document.currentScript?.dataset || {});

/**
 * An amount in minor units, whose digits ISO 4217 says; not `Intl`, whose data say how prices are
 * shown. Moved by its decimal digits, never multiplied, so that 4.35 is 435 and not
 * 434.99999999999994; half a unit rounds up. NaN, which the gateway refuses, for what is no number,
 * and without a currency: nothing is guessed.
 * @param {any} value a number, or its text with a decimal point
 * @param {any} currency in any case
 */
export const minor = (value, currency) => {
  const [digits, power = 0] = `${value}`.split('e');
  const exponent =
    /bif|clp|djf|gnf|isk|jpy|kmf|krw|pyg|rwf|ugx|uyi|vnd|vuv|xaf|xof|xpf/i.test(currency)
      ? 0
      : /bhd|iqd|jod|kwd|lyd|omr|tnd/i.test(currency)
        ? 3
        : /clf|uyw/i.test(currency)
          ? 4
          : currency
            ? 2
            : NaN;
  return Math.round(/** @type {any} */ (`${digits}e${+power + exponent}`));
};

/** @param {Fields} item in GA4's form */
const idOf = (item) => text(item[options.sku || 'item_id'] || item.item_name);

/**
 * The cart's items after some were added, or removed. What has no id or quantity changes nothing, or
 * the cart would be refused from then on.
 * @param {CartItem[]} items
 * @param {Fields[]} changed in GA4's form
 * @param {number} sign 1 or -1
 */
export const change = (items, changed, sign) => {
  const now = items.map((item) => ({ ...item }));
  changed.forEach((item) => {
    const { quantity = 1 } = item;
    const sku = /** @type {string} */ (idOf(item));
    let found = now.find((each) => each.sku == sku);
    if (!found) now.push((found = { sku, quantity: 0 }));
    found.quantity += sign * (quantity | 0);
  });
  return now.filter(({ sku, quantity }) => sku && quantity > 0);
};

/** @param {any} pushed an object, or what gtag(…) was called with */
const take = (pushed) => {
  // gtag(command, name, parameters), or gtag('set', parameters).
  const /** @type {Fields} */ said = pushed[0]
    ? { ...pushed[1], event: pushed[1], ...pushed[2] }
    : pushed;
  const { event } = said;
  const /** @type {Fields} */ all = { ...said, ...said.ecommerce };
  const { items, currency = options.currency, coupon, shipping, tax } = all;
  const sign = /** @type {any} */ ({ add_to_cart: 1, remove_from_cart: -1, view_cart: 0 })[event];

  if ('user_id' in all) gateway('identify', { customerId: text(all.user_id) });
  if (event == 'view_item')
    items.forEach((/** @type {Fields} */ item) =>
      gateway('product', {
        itemId: idOf(item),
        category: ['', 2, 3, 4, 5]
          .map((level) => item['item_category' + level])
          .filter(text)
          .join(' > '),
      }),
    );
  if (sign > -2)
    // The collector keeps the cart, as far as consent allows.
    gateway('cart', (/** @type {any} */ latest) => {
      const now = change((sign && latest?.items) || [], items, sign || 1);
      // A cart that never was is not emptied: this throws, and nothing is sent.
      latest ||= now[0] && { cartReference: Date.now() + '-' + Math.random() };
      return { cartReference: latest.cartReference, url: options.cartUrl, items: now };
    });
  if (event == 'purchase')
    gateway('sale', (/** @type {any} */ latest) => ({
      amount: minor(all.value, currency),
      currency,
      invoiceId: text(all.transaction_id),
      cartReference: latest?.cartReference,
      metadata: { coupon, shipping, tax },
    }));
  if (event == 'generate_lead' || event == 'sign_up') gateway('lead', { eventName: event });
};

safely(() => {
  const page = /** @type {any} */ (globalThis);
  const list = (page[options.layer || 'dataLayer'] ||= []);
  const { push } = list;
  const see = safely(take);
  // Two tags on a page would count everything twice.
  if (list.gateway) return;
  list.gateway = 1;
  list.forEach(see);
  list.push = (/** @type {any[]} */ ...pushed) => {
    pushed.forEach(see);
    return push.apply(list, pushed);
  };
})();
