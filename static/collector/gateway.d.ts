/**
 * The collector's interface: the global `gateway(command, fields)`, and the options of its tag.
 *
 * Every call gives a promise that is never rejected. For an event it tells the outcome; it is
 * pending for as long as the event waits, and ends with the page. Amounts are integers in minor units
 * (4990 is 49.90 SEK). Ids never stand in for one another: `customerId` is the shop's account,
 * `contactId` Voyado's person, `clickId` Dub's click.
 */

/** What every event may carry beside its own fields; it wins over what the collector knows. */
export interface CommonFields {
  customerId?: string | null;
  contactId?: string | null;
  clickId?: string | null;
  language?: string;
  /** Where it happened; the page's address if left out. */
  url?: string;
  metadata?: Record<string, unknown>;
}

export interface PageFields extends CommonFields {
  /** What is over 500 characters is cut. Pages that count by themselves have the document's. */
  title?: string;
}

export interface ProductFields extends CommonFields {
  itemId: string;
  /** As a path: `"Shoes > Running"`. */
  category?: string;
}

export interface CartItem {
  sku: string;
  /** 1 to 999,999. */
  quantity: number;
}

/** The whole cart as it is now; `items: []` says that it was emptied. */
export interface CartFields extends CommonFields {
  cartReference: string;
  /** The link back to the cart: never the page's address. */
  url?: string;
  items: CartItem[];
}

export interface Profile {
  customerName?: string;
  customerEmail?: string;
  customerAvatar?: string;
  /** Two letters. */
  country?: string;
}

export interface LeadFields extends CommonFields, Profile {
  eventName: string;
  mode?: 'async' | 'wait' | 'deferred';
  eventQuantity?: number;
}

export interface SaleFields extends CommonFields, Profile {
  /** Minor units, never negative. */
  amount: number;
  currency?: string;
  /** The same here and in the shop's own server-side sale, so that the two count once. */
  invoiceId?: string;
  /** The cart that was bought: the gateway empties it. */
  cartReference?: string;
  eventName?: string;
  leadEventName?: string;
  paymentProcessor?: string;
}

export interface CustomerFields extends CommonFields, Profile {}

export interface CustomFields extends CommonFields {
  eventName: string;
}

/**
 * Who this is: the ids are remembered, and go out with every event from now on. An id given as
 * `null` is forgotten; one left out stays as it was. A `customer` event is sent when the ids have
 * changed, so that this may be called on every page; to tell a new name or address of the same
 * customer, send `customer`.
 */
export interface IdentifyFields extends Profile {
  customerId?: string | null;
  contactId?: string | null;
  eclub?: string | null;
  clickId?: string | null;
  mailReference?: string | null;
  metadata?: Record<string, unknown>;
}

/**
 * `full` stores and identifies; `limited` (the default) sends events that identify nobody and
 * stores nothing on the device; `none` sends nothing; `wait` keeps everything in the page's memory
 * until one of the others is said, and then treats it as that says.
 */
export type Consent = 'full' | 'limited' | 'none' | 'wait';

/** What became of an event. */
export interface Outcome {
  /**
   * `accepted`: it is in the gateway's log (or was there already). `duplicate`, `rejected`: so says
   * the gateway. `dropped`: it was not sent, for want of consent, after 23 hours, beyond 500
   * events or 500,000 bytes that wait, or because what the page passed cannot be: `debug` tells.
   */
  outcome: 'accepted' | 'duplicate' | 'rejected' | 'dropped';
  /** The gateway's reason. */
  reason?: string;
  /** The field that it is about. */
  field?: string;
  /** What to do; where the whole request was refused, the gateway's answer as it came. */
  message?: string;
  /** The event's. */
  id?: string;
}

/** What is known of the visitor with full consent, for the shop's own server-side events. */
export interface Ids {
  visitorId?: string;
  sessionId?: string;
  customerId?: string | null;
  contactId?: string | null;
  eclub?: string | null;
  clickId?: string | null;
  adClickIds?: Record<string, string>;
  mailReference?: string | null;
  referrer?: string;
  utm?: Record<string, string>;
}

/** The tag's data attributes (`data-auto-page="false"`), or what `start` takes. */
export interface Options {
  /** The site's browser key. */
  key: string;
  /** Where to post to. The tag's default: `/v1/events` where the script came from. */
  endpoint: string;
  /**
   * Until the page calls `consent`. Default: `full` if this browser remembers that, else `limited`.
   * Less than `full` erases nothing here: the page may be about to say more.
   */
  consent?: Consent;
  /** `false`: pages are not counted by themselves, only by `gateway('page')`. */
  autoPage?: 'false';
  /** Default: the document's. */
  language?: string;
  /** Where there is no document, or it is not the shop's page: the page's address. */
  url?: string;
  /** The landing link's parameter with Dub's click id. Default: `dub_id`. */
  clickParameter?: string;
  /** The landing link's parameter with the mail reference. Default: `mail_ref`. */
  mailParameter?: string;
  /** `true`: personal parameters are taken out of the address bar. */
  cleanAddress?: 'true';
}

/** An event's fields, or a function that gets the latest cart, if there is one, and gives them. */
export type Told<Fields> = Fields | ((latest: CartFields | null | undefined) => Fields);

export interface Gateway {
  (command: 'page', fields?: Told<PageFields>): Promise<Outcome>;
  (command: 'product', fields: Told<ProductFields>): Promise<Outcome>;
  (command: 'cart', fields: Told<CartFields>): Promise<Outcome>;
  (command: 'lead', fields: Told<LeadFields>): Promise<Outcome>;
  (command: 'sale', fields: Told<SaleFields>): Promise<Outcome>;
  (command: 'customer', fields: Told<CustomerFields>): Promise<Outcome>;
  (command: 'custom', fields: Told<CustomFields>): Promise<Outcome>;
  /** Gives the outcome of the `customer` event, undefined if none was needed. */
  (command: 'identify', fields: IdentifyFields): Promise<Outcome | undefined>;
  (command: 'consent', choice: Consent): Promise<void>;
  /** Log-out: empties the cart, then forgets who this is. */
  (command: 'reset'): Promise<Outcome | undefined>;
  /** Empty unless consent is full. */
  (command: 'ids'): Promise<Ids>;
  /** Explains on the console what is sent, refused and why; `false` ends it. */
  (command: 'debug', on?: boolean): Promise<void>;
  (command: string, fields?: any): Promise<any>;
  /** Before the script has loaded, the calls so far; each may have `r`, which gets its outcome. */
  q?: any[];
  /** Once it has loaded, the site's key. */
  key?: string;
}

declare global {
  var gateway: Gateway;
  interface Window {
    gateway: Gateway;
  }
  interface Document {
    /** Chromium: the page is rendered ahead of a visit that may never come. */
    readonly prerendering?: boolean;
  }
  interface Navigator {
    readonly globalPrivacyControl?: boolean;
  }
}
