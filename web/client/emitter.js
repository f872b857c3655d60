/** Listeners by the event's name. */
export class Emitter {
  #listeners = new Map();

  /** Returns a function that takes the listener off again. */
  on(event, listener) {
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set.add(listener));
    return () => void set.delete(listener);
  }

  _emit(event, ...values) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      // A page's mistake must not end a call.
      try { listener(...values); } catch (error) { reportError(error); }
    }
  }
}
