/** Microphone, speaker, ringer and volume, each with a test; notifications; a check of everything that a call needs. */

import { Phone } from './ringback.js';
import { $, button, element, fill, setText, Stored } from './dom.js';

const TEST_MS = 15_000;
const CHECK_MS = 20_000;
/** What the meters show: quieter is empty, louder is full. */
const METER_DB = { empty: -60, full: -6 };
const VERDICTS = { ready: 'Ready for calls.', degraded: 'Calls will work, but not well.', blocked: 'Calls will not work.' };

const TOO_LONG = { verdict: 'blocked', reasons: [{ text: 'The check took too long.', remedies: ['Look at the network, and check again.'] }] };

/** A level in dB as a meter's width. */
export function meter(db) {
  return `${Math.round(100 * Math.min(1, Math.max(0, (db - METER_DB.empty) / (METER_DB.full - METER_DB.empty))))}%`;
}

export class Devices {
  #phone; #options; #chosen = new Stored('audio', {}); #stopTest = null; #testing = 0; #checking = false;

  /** @param options those of the phone, for the check */
  constructor(phone, options) {
    this.#phone = phone;
    this.#options = options;
    $('microphone').addEventListener('change', ({ target }) => this.#choose('input', target.value));
    $('speaker').addEventListener('change', ({ target }) => this.#choose('output', target.value));
    $('ringer').addEventListener('change', ({ target }) => this.#choose('ringer', target.value));
    $('volume').addEventListener('input', ({ target }) => this.#setVolume(Number(target.value)));
    $('test-microphone').addEventListener('click', () => (this.#stopTest ? this.#endTest() : this.#test()));
    $('test-speaker').addEventListener('click', () => { for (const [at, digit] of ['1', '5', '9'].entries()) setTimeout(() => phone.audio.play('dtmf', digit), 220 * at); });
    $('test-ringer').addEventListener('click', () => phone.audio.play('ring'));
    $('check').addEventListener('click', () => this.#check());
    document.body.addEventListener('panel', ({ detail }) => { if (detail !== 'audio') this.#endTest(); });
    phone.on('devices', () => this.#show());
    this.#setVolume(this.#chosen.value.volume ?? 100);
    this.#restore();
    this.#show();
  }

  // What was chosen in another visit; a device that is not there today is not mourned.
  async #restore() {
    const { input, output, ringer } = this.#chosen.value;
    const { audio } = this.#phone;
    if (input) await audio.useInput(input).catch(() => {});
    if (output) await audio.useOutput(output).catch(() => {});
    if (ringer) await audio.useRinger(ringer).catch(() => {});
    this.#show();
  }

  async #choose(what, id) {
    const { audio } = this.#phone;
    const use = { input: (to) => audio.useInput(to), output: (to) => audio.useOutput(to), ringer: (to) => audio.useRinger(to) }[what];
    try {
      await use(id || null);
      this.#keep({ [what]: id });
      setText($('device-note'), '');
    } catch (error) {
      setText($('device-note'), error.text ?? error.message);
    }
    this.#show();
    if (what === 'input' && this.#stopTest) this.#test();
  }

  #keep(change) {
    this.#chosen.value = { ...this.#chosen.value, ...change };
  }

  #setVolume(percent) {
    this.#phone.audio.volume = percent / 100;
    $('volume').value = percent;
    $('volume-text').textContent = `${percent} %`;
    this.#keep({ volume: percent });
  }

  #show() {
    const { inputs, outputs, input, output, ringer } = this.#phone.audio;
    list($('microphone'), inputs, input);
    list($('speaker'), outputs, output);
    list($('ringer'), outputs, ringer);
  }

  async #test() {
    this.#endTest();
    const test = ++this.#testing;
    setText($('device-note'), 'Say something: the bar moves with your voice.');
    try {
      const stop = await this.#phone.audio.testInput((db) => $('microphone-level').style.setProperty('--level', meter(db)));
      if (test !== this.#testing) return stop();
      const timer = setTimeout(() => this.#endTest(), TEST_MS);
      this.#stopTest = () => { clearTimeout(timer); stop(); };
      this.#showTest(true);
    } catch (error) {
      setText($('device-note'), [error.text ?? error.message, error.remedies?.[0]].filter(Boolean).join(' '));
    }
  }

  #endTest() {
    this.#testing++;
    if (!this.#stopTest) return;
    this.#stopTest();
    this.#stopTest = null;
    this.#showTest(false);
    setText($('device-note'), '');
  }

  #showTest(on) {
    $('test-microphone').setAttribute('aria-pressed', String(on));
    $('test-microphone').querySelector('span').textContent = on ? 'Stop' : 'Test';
    $('microphone-bar').hidden = !on;
  }

  async #check() {
    if (this.#checking) return;
    this.#checking = true;
    this.#endTest();
    setText($('check-note'), 'Trying everything that a call needs…');
    const report = await Phone.preflight({ ...this.#options, signal: AbortSignal.timeout(CHECK_MS) }).catch(() => TOO_LONG);
    this.#checking = false;
    setText($('check-note'), VERDICTS[report.verdict]);
    showReport(report);
  }
}

function list(select, devices, chosen) {
  const options = devices.filter(({ deviceId }) => deviceId && deviceId !== 'default').map(({ deviceId, label }, at) => new Option(label || `Device ${at + 1}`, deviceId));
  select.replaceChildren(new Option('System default', ''), ...options);
  select.value = chosen ?? '';
  if (select.selectedIndex < 0) select.value = '';
}

function showReport({ verdict, microphone, websocketMs, ice, turn, rttMs, jitterMs, lossPct, mos, reasons }) {
  const facts = [
    ['Microphone', microphone === 'ok' ? 'works' : microphone && 'no'],
    ['Gateway', websocketMs === undefined ? undefined : `${Math.round(websocketMs)} ms`],
    ['Sound path', ice && `${ice === 'none' ? 'none' : ice.toUpperCase()}${turn ? ' by TURN' : ''}`],
    ['Round trip', rttMs === undefined ? undefined : `${Math.round(rttMs)} ms`],
    ['Jitter', jitterMs === undefined ? undefined : `${Math.round(jitterMs)} ms`],
    ['Lost', lossPct === undefined ? undefined : `${lossPct.toFixed(1)} %`],
    ['Score (1–5)', mos === undefined ? undefined : mos.toFixed(1)],
  ].filter(([, value]) => value);
  const shown = element('dl', ...facts.map(([name, value]) => element('div', element('dt', name), element('dd', value))));
  shown.className = 'facts';
  const why = reasons.map((reason) => {
    const remedies = element('ul');
    remedies.className = 'remedies';
    fill(remedies, reason.remedies ?? []);
    return element('div', element('b', reason.text), remedies);
  });
  const close = button('Dismiss', { className: 'chip', onClick: () => { $('verdict').hidden = true; $('check').focus(); } });
  $('verdict').dataset.verdict = verdict;
  $('verdict').replaceChildren(element('b', VERDICTS[verdict]), ...why, shown, close);
  $('verdict').hidden = false;
}
