/** What the tests see and do of a library's phone: each library fills in the methods, and tells here what it was told. */

export const phone = {
  /** `none`, `registered`, or `failed` with a reason. */
  registration: 'none',
  /** Of each call, in the order they began: { state, cause, direction, remote, held, digits, transfer }. */
  calls: [],
  /** Everything the library told, for a failed test's message. */
  events: [],
};
globalThis.foreign = phone;

const speaker = document.querySelector('audio');

/** A remote track must play in a media element, or nothing of it can be recorded. */
export function play(track) { speaker.srcObject = new MediaStream([track]); }
export { speaker };

/** Amplitude of what counts as sound: -40 dB. */
const SOUND = 0.01;
const context = new AudioContext();

/** The click: what `sound` of the call is counted from, in ms. */
phone.clickAndCall = (target) => {
  phone.firstSound = null;
  phone.clicked = performance.now();
  return phone.call(target);
};

/** Watches closely for the first sound of a track: `firstSound` is then how long after the click it was. */
export function awaitSound(track) {
  const analyser = new AnalyserNode(context, { fftSize: 256 });
  const heard = context.createMediaStreamSource(new MediaStream([track]));
  heard.connect(analyser);
  if (meter) heard.connect(meter);
  const samples = new Float32Array(analyser.fftSize);
  const look = () => {
    analyser.getFloatTimeDomainData(samples);
    if (samples.some((sample) => Math.abs(sample) > SOUND)) {
      phone.firstSound = performance.now() - phone.clicked;
      analyser.disconnect();
    } else if (track.readyState === 'live') setTimeout(look, 2);
  };
  look();
}

/** How long a burst into the microphone is, and how long after one the next comes, in seconds: longer than any way there and back. */
const BURST = 0.05;
const EVERY = 1.2;
/**
 * Says bursts of 1 kHz and tells after how many ms each is heard, by the clock of the sound; nothing of one that is said while the
 * last is still heard.
 */
const ECHO_METER = `registerProcessor('echo-meter', class extends AudioWorkletProcessor {
  still = 0;
  process([[heard]], [[said]]) {
    for (let i = 0; i < said.length; i++) {
      const at = (currentFrame + i) / sampleRate % ${EVERY};
      said[i] = at < ${BURST} ? 0.5 * Math.sin(2000 * Math.PI * at) : 0;
      const loud = Math.abs(heard?.[i] ?? 0) > 0.1;
      this.still = loud ? 0 : this.still + 1;
      if (at < 0.001) this.waits = this.still > ${BURST} * sampleRate;
      if (this.waits && loud) {
        this.waits = false;
        this.port.postMessage(1000 * at);
      }
    }
    return true;
  }
})`;

let meter;
/** Makes the microphone one whose way through a phone that echoes is measured: `roundTrips` has the ms of each burst. */
phone.measureEcho = async () => {
  phone.roundTrips = [];
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([ECHO_METER], { type: 'text/javascript' })));
  await context.resume();
  meter = new AudioWorkletNode(context, 'echo-meter', { outputChannelCount: [1] });
  meter.port.onmessage = ({ data }) => phone.roundTrips.push(data);
  const mouth = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  meter.connect(mouth);
  navigator.mediaDevices.getUserMedia = async () => mouth.stream.clone();
};

export function note(event, detail = '') { phone.events.push(`${Math.round(performance.now())} ${event} ${detail}`); }

export function newCall(direction, remote) {
  const call = { direction, remote, state: 'new', cause: null, held: false, heldByThem: false, digits: '', transfer: null };
  phone.calls.push(call);
  note(`call ${phone.calls.length - 1}`, `${direction} ${remote}`);
  return call;
}

export function register(outcome, reason) {
  phone.registration = reason ? `${outcome}: ${reason}` : outcome;
  note('registration', phone.registration);
}

/** States of a call that nobody has answered. */
const BEFORE = ['new', 'connecting', 'incoming', 'ringing', 'early'];

export function became(call, state, cause) {
  note(`call ${phone.calls.indexOf(call)}`, `${state} ${cause ?? ''}`);
  // What is told late is no step back.
  if (call.state === 'ended') return;
  if (BEFORE.includes(state) && !BEFORE.includes(call.state)) return;
  if (state === 'ringing' && call.state === 'early') return; // a 180 without a body after the 183 that brought the sound
  call.state = state;
  if (cause !== undefined) call.cause = cause;
}
