/** The sound of one call: its connection to the gateway, its microphone, what is played of the far end, and how loud both are. */

import { Meter, SILENCE_DB, stopStream } from './microphone.js';
import { PhoneError } from './texts.js';

/** Above the noise a codec makes out of digital silence, below any tone or voice. */
const SOUND_DB = -55;
const LEVEL_EVERY_MS = 50;
/** Closely at first, when a few milliseconds are what is measured. */
const LOOK = { closelyForMs: 3000, closelyMs: 5, afterwardsMs: 50 };
/** A path that is out for so long is sought anew; a packet or two get lost everywhere. */
const SHAKY_MS = 1000;

function preferCodecs(transceiver, names) {
  if (!names) return;
  const known = RTCRtpReceiver.getCapabilities('audio').codecs;
  const named = (codec) => codec.mimeType.slice('audio/'.length).toLowerCase();
  const wanted = names.flatMap((name) => known.filter((codec) => named(codec) === name.toLowerCase()));
  transceiver.setCodecPreferences([...wanted, ...known.filter((codec) => named(codec) === 'telephone-event')]);
}

export class SoundPath {
  #audio; #on; #transceiver = null; #shaky = null; #closed = false;
  #microphone = null; #own = true; #constraints; #unplugged = false; #quiet = false;
  #element = null; #meters = {}; #timer; #since = performance.now();
  stream = new MediaStream();
  pc = null;

  /** `on`: `mark(timing)`, `up()` when sound can pass, `down(failed)`, `level(in, out)`, `unplugged(whether)`. */
  constructor(audio, on) {
    this.#audio = audio;
    this.#on = on;
  }

  get up() { return this.pc?.connectionState === 'connected'; }
  get description() { return this.pc?.localDescription?.sdp; }

  // -- the connection

  connect(configuration) {
    const pc = this.pc = new RTCPeerConnection(configuration);
    pc.oniceconnectionstatechange = () => { if (pc.iceConnectionState === 'connected') this.#on.mark('ice'); };
    pc.onconnectionstatechange = () => {
      clearTimeout(this.#shaky);
      const state = pc.connectionState;
      if (state === 'connected') this.#on.up();
      if (state === 'disconnected') this.#shaky = setTimeout(() => this.#on.down(false), SHAKY_MS);
      if (state === 'failed') this.#on.down(true);
    };
  }

  /** Our offer. It goes out at once: an ICE-lite gateway learns our addresses from our checks, so nothing need be gathered. */
  async offer(codecs) {
    this.#transceiver = this.pc.addTransceiver('audio', { direction: 'sendrecv' });
    preferCodecs(this.#transceiver, codecs);
    await this.pc.setLocalDescription();
    return this.description;
  }

  /** Our answer to the gateway's offer, once the microphone is open. */
  async answer(sdp, codecs, microphone) {
    await this.pc.setRemoteDescription({ type: 'offer', sdp });
    [this.#transceiver] = this.pc.getTransceivers();
    this.#transceiver.direction = 'sendrecv';
    preferCodecs(this.#transceiver, codecs);
    await this.speak(await microphone);
    await this.pc.setLocalDescription();
  }

  /** Another offer of the same connection, over whatever network and servers there are now. */
  async restart({ iceServers }) {
    try { this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers }); } catch { /* then those of before */ }
    this.pc.restartIce();
    await this.pc.setLocalDescription();
    return this.description;
  }

  accepted(sdp) { return this.pc.setRemoteDescription({ type: 'answer', sdp }); }

  // -- the microphone

  /** Opens the microphone that the page wants, or takes the stream that it gives. */
  open(wanted) {
    const opening = this.#open(wanted);
    opening.catch(() => {}); // its failure is seen where it is awaited
    return opening;
  }

  async #open(wanted) {
    const own = !(wanted instanceof MediaStream);
    const stream = own ? await this.#audio._open(wanted) : wanted;
    if (this.#closed) {
      if (own) stopStream(stream);
      throw new PhoneError('normal');
    }
    this.#on.mark('mic');
    this.#own = own;
    this.#constraints = wanted;
    if (own) this.#audio._join(this);
    return stream;
  }

  async speak(stream) {
    const before = this.#microphone;
    this.#microphone = stream;
    this.#applyQuiet();
    const [track] = stream.getAudioTracks();
    track.addEventListener('ended', () => { if (this.#microphone === stream) this.#lost(); }, { once: true });
    await this.#transceiver.sender.replaceTrack(track);
    if (before && this.#own) stopStream(before);
    if (this.#closed) return;
    this.#meters.out?.close();
    this.#meters.out = new Meter(this.#audio._context(), stream);
  }

  /** Another microphone was chosen. */
  async reopen() {
    const stream = await this.#open(this.#constraints);
    await this.speak(stream);
    if (this.#unplugged) this.#on.unplugged(false);
    this.#unplugged = false;
  }

  /** The microphone went away: another one will do. */
  #lost() {
    if (this.#closed) return;
    const none = () => {
      if (this.#unplugged || this.#closed) return;
      this.#unplugged = true;
      this.#on.unplugged(true);
    };
    if (this.#own) this.reopen().catch(none);
    else none();
  }

  devicesChanged() { if (this.#unplugged) this.reopen().catch(() => {}); }

  /** Whether we mean to send silence. */
  quiet(on) {
    this.#quiet = on;
    this.#applyQuiet();
  }

  #applyQuiet() {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !this.#quiet;
  }

  // -- what is heard

  /** Plays the far end and watches for its first sound. */
  listen(since) {
    this.#since = since;
    this.stream.addTrack(this.#transceiver.receiver.track);
    this.#element = this.#audio._play(this.stream);
    this.#meters.in = new Meter(this.#audio._context(), this.stream);
    this.#awaitSound();
    this.#timer = setInterval(() => this.#on.level(this.#meters.in.read(), this.#quiet ? SILENCE_DB : this.#meters.out?.read() ?? SILENCE_DB), LEVEL_EVERY_MS);
  }

  /** Whether the far end is to be heard at present. */
  hear(on) { if (this.#element) this.#element.muted = !on; }

  #awaitSound() {
    if (this.#closed) return;
    if (this.#meters.in.read() > SOUND_DB) return this.#on.mark('sound');
    const closely = performance.now() - this.#since < LOOK.closelyForMs;
    setTimeout(() => this.#awaitSound(), closely ? LOOK.closelyMs : LOOK.afterwardsMs);
  }

  close() {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#shaky);
    this.#meters.in?.close();
    this.#meters.out?.close();
    this.#audio._silence(this.#element);
    this.#audio._leave(this);
    if (this.pc) this.pc.oniceconnectionstatechange = this.pc.onconnectionstatechange = null;
    this.pc?.close();
    if (this.#own) stopStream(this.#microphone);
  }
}
