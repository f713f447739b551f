/**
 * Runs before the collector: makes the queue for calls that come before it has loaded, and says
 * what the visitor has consented to. It is a file, so that no inline script is needed.
 *
 * A real shop asks before it says `full`; this one shows its choice at the foot of each page.
 */
window.gateway =
  window.gateway ||
  function () {
    // @ts-ignore TS2683: a queue is all there is so far, and it takes any call.
    (gateway.q = gateway.q || []).push(arguments);
  };

gateway('consent', /** @type {any} */ (localStorage.getItem('shop.consent') || 'full'));
