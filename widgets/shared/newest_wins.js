const UNDER_WAY = 2; // requests sent and not answered; more would only wait in the kernel's queue
const LOST_MS = 2000; // an answer that takes longer is no longer waited for
const FRAME_MS = 16;
const SLOW_MS = 300;
const PROBE_MS = 500; // how often a slow line is tried while the hand is on the slider

/**
 * Send the newest value, numbered: at once if none went in this frame, at most two under way; where answers mostly
 * take over 300 ms, twice a second and on release.
 */
export function newestWins(send, { frame = (act) => requestAnimationFrame(act), now = () => performance.now() } = {}) {
  let waiting = null; // {value} that was not sent yet
  let seq = 0;
  let shown = 0;
  let booked = false;
  let last = -Infinity; // when the last one was sent
  const roundTrips = []; // of the newest answers
  const sent = new Map();
  const flush = () => {
    booked = false;
    for (const [old, at] of sent) if (now() - at > LOST_MS) sent.delete(old);
    if (!waiting || sent.size >= UNDER_WAY) return;
    const { value } = waiting;
    waiting = null;
    last = now();
    sent.set(++seq, last);
    send(value, seq);
  };
  const book = () => {
    if (booked) return;
    booked = true;
    if (now() - last >= FRAME_MS) flush();
    else frame(flush);
  };
  return {
    push(value, { released = false } = {}) {
      if (this.slow && !released && now() - last < PROBE_MS) return;
      waiting = { value };
      book();
    },
    /** True when this answer is newer than what is shown. */
    accept(answered) {
      if (sent.has(answered)) roundTrips.unshift(now() - sent.get(answered));
      roundTrips.length = Math.min(roundTrips.length, 5);
      for (const old of sent.keys()) if (old <= answered) sent.delete(old);
      if (waiting) book();
      if (answered <= shown) return false;
      shown = answered;
      return true;
    },
    get seq() {
      return seq;
    },
    get slow() {
      return roundTrips.length > 2 && [...roundTrips].sort((a, b) => a - b)[roundTrips.length >> 1] > SLOW_MS;
    },
  };
}
