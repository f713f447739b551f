/**
 * Runs before the collector: makes the queue for calls that come before it has loaded, and says
 * what the visitor has consented to. It is a file, so that no inline script is needed.
 *
 * A real shop asks before it says `full`; this one shows its choice at the foot of each page.
 */
window.gateway =
  window.gateway ||
  function () {
    var /** @type {any} */ call = arguments;
    return new Promise(function (resolve) {
      call.r = resolve;
      (gateway.q = gateway.q || []).push(call);
    });
  };

gateway('consent', /** @type {any} */ (localStorage.getItem('shop.consent') || 'full'));
