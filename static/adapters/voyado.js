/**
 * Takes the calls of Voyado's own script, `va(…)`: `voyado.md`.
 *
 *     <script async src="https://shop.example/adapters/voyado.js"></script>
 */

import { safely, text } from './safely.js';

/** @typedef {import('./safely.js').Fields} Fields */

/**
 * @param {string} command
 * @param {any} said
 */
const take = (command, said) => {
  const contactId = text(command == 'setContactId' ? said.id || said : said.contactId);
  // Left out where it is not said, for then it is the page's.
  const language = said.locale && { language: said.locale };
  if (contactId) gateway('identify', { contactId });
  if (command == 'productview')
    gateway('product', { itemId: text(said.itemId), category: said.categoryName, ...language });
  if (/cart$/i.test(command))
    gateway('cart', {
      cartReference: text(said.cartRef),
      url: said.cartUrl,
      items: (command == 'cart' ? said.items : []).map((/** @type {Fields} */ item) => ({
        sku: text(item.itemId),
        quantity: +item.quantity,
      })),
      ...language,
    });
};

safely(() => {
  const page = /** @type {any} */ (globalThis);
  // Voyado's loader lets a shop choose the name.
  const name = page.VoyadoAnalyticsObject || 'va';
  const { q = [] } = page[name] || {};
  const va = (page[name] = safely(take));
  q.forEach((/** @type {any} */ call) => va(...call));
})();
