/**
 * Put into every page before its own scripts: records each remote track as the page gets it. The page itself is left as it
 * is. `speech` (a wav as base64) replaces the microphone, where the browser has no option for that.
 */
export function instrument(speech) {
  /** `listensTo`: which of the recordings is looked at, the last one unless a test says. */
  const state = { recordings: [], problems: [], listensTo: -1 };
  globalThis.ringbackTest = state;

  // Where there is one, a MediaStreamTrackProcessor: what the page's thread takes late waits in its queue. Elsewhere a
  // ScriptProcessorNode with its longest buffer. Not an AudioWorklet: it would have to be loaded, which the page's own
  // Content Security Policy forbids.
  async function record(track) {
    const recording = { rate: 0, pieces: [], length: 0 };
    state.recordings.push(recording);
    const keep = (piece, rate) => {
      recording.rate = rate;
      recording.pieces.push(piece);
      recording.length += piece.length;
    };
    if (globalThis.MediaStreamTrackProcessor) {
      const frames = new MediaStreamTrackProcessor({ track, maxBufferSize: 3000 }).readable.getReader();
      for (let next = await frames.read(); !next.done; next = await frames.read()) {
        const piece = new Float32Array(next.value.numberOfFrames);
        next.value.copyTo(piece, { planeIndex: 0, format: 'f32-planar' });
        keep(piece, next.value.sampleRate);
        next.value.close();
      }
      return;
    }
    const context = new AudioContext();
    const recorder = context.createScriptProcessor(16384, 1, 1);
    recording.recorder = recorder; // or it is collected
    recorder.onaudioprocess = ({ inputBuffer }) => keep(inputBuffer.getChannelData(0).slice(), inputBuffer.sampleRate);
    context.createMediaStreamSource(new MediaStream([track])).connect(recorder).connect(context.destination);
    if (context.state !== 'running') await context.resume();
  }

  state.record = record;

  const Original = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Original {
    constructor(...args) {
      super(...args);
      this.addEventListener('track', ({ track }) => record(track).catch((error) => state.problems.push(String(error))));
    }
  };
  // Old libraries know it by its first name.
  if (globalThis.webkitRTCPeerConnection) globalThis.webkitRTCPeerConnection = globalThis.RTCPeerConnection;

  state.seconds = () => {
    const recording = state.recordings.at(state.listensTo);
    return recording?.length ? recording.length / recording.rate : 0;
  };
  /** The recording from a second on, as 16-bit samples in base64. */
  state.take = (from, to) => {
    const { rate, pieces, length } = state.recordings.at(state.listensTo);
    const all = new Float32Array(length);
    let at = 0;
    for (const piece of pieces) { all.set(piece, at); at += piece.length; }
    const part = Int16Array.from(all.subarray(Math.floor(from * rate), Math.floor(to * rate)), (x) => Math.max(-1, Math.min(1, x)) * 32767);
    let bytes = '';
    for (const byte of new Uint8Array(part.buffer)) bytes += String.fromCharCode(byte);
    return { rate, base64: btoa(bytes) };
  };

  if (!speech || !navigator.mediaDevices) return; // about:blank has no microphones
  // Decoded before it is asked for, as a microphone is there before it is opened.
  const microphone = (async () => {
    const context = new AudioContext();
    const bytes = Uint8Array.from(atob(speech), (c) => c.charCodeAt(0));
    const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(bytes.buffer), loop: true });
    const destination = context.createMediaStreamDestination();
    source.connect(destination);
    source.start();
    await context.resume();
    return destination.stream;
  })();
  navigator.mediaDevices.getUserMedia = async () => (await microphone).clone();
}

/** Runs in the page, before its own scripts: `ringbackTest.network(false)` breaks all WebSockets, and those to come. */
export function breakable() {
  const sockets = new Set();
  let up = true;
  const Original = globalThis.WebSocket;
  globalThis.WebSocket = class extends Original {
    constructor(url, protocols) {
      super(up ? url : 'ws://127.0.0.1:9/', protocols); // where nobody listens
      sockets.add(this);
    }
  };
  globalThis.ringbackTest.network = (on) => {
    up = on;
    for (const socket of sockets) if (!on) socket.close(4999);
  };
}

/** Put into the pages of a browser that tells a test nothing of what a Content Security Policy forbade: its console has it then. */
export function tellViolations() {
  addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI, sourceFile, lineNumber }) => {
    console.error(`Content Security Policy: ${effectiveDirective} forbids ${blockedURI} (${sourceFile}:${lineNumber})`);
  });
}
