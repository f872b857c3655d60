/** SIPp as the telephone network: one run of one scenario. */

import dgram from 'node:dgram';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Program, udpBound, until } from './processes.js';

const SCENARIOS = fileURLToPath(new URL('../sipp/', import.meta.url));
let runs = 0;

export class Sipp extends Program {
  /**
   * @param {{ scenario: string, port: number, out: string, remote?: string, keys?: Record<string, string | number>, calls?: number, within?: Namespace, args?: string[] }} run
   * `port` is SIPp's own; `remote` (host:port) makes it a caller; `keys` fill `[name]` in the scenario,
   * which is run for so many `calls`, `within` a namespace where that is told.
   */
  static async start({ scenario, port, out, remote, keys = {}, calls = 1, within, args = [] }) {
    const name = path.join(out, `sipp-${++runs}-${scenario}`);
    const words = Object.entries(keys).flatMap(([key, value]) => ['-key', key, String(value)]);
    const sipp = new Sipp('sipp', [
      ...(remote ? [remote] : []), '-sf', path.join(SCENARIOS, `${scenario}.xml`), '-i', '127.0.0.1', '-p', String(port), '-m', String(calls),
      '-nostdin', '-timeout', '60', '-timeout_error', '-trace_msg', '-message_file', `${name}.messages`, '-trace_err', '-error_file', `${name}.errors`, ...words, ...args,
    ], { within, env: { ...process.env, TERM: 'dumb' } });
    sipp.port = port;
    sipp.messageFile = `${name}.messages`;
    sipp.errorFile = `${name}.errors`;
    await until(() => udpBound(port, within?.pid) || !sipp.running, `SIPp on port ${port}`);
    if (!sipp.running && sipp.child.exitCode !== 0) throw new Error(`SIPp did not start:\n${sipp.output}`);
    return sipp;
  }

  /** All messages so far: { at (Unix ms), way, text }. */
  get messages() {
    let file = '';
    try { file = readFileSync(this.messageFile, 'utf8'); } catch { /* nothing was said yet */ }
    return file.split(/^-{20,} /m).slice(1).map((part) => {
      const [, date] = part.match(/^(\d{4}-\d\d-\d\d[\sT]+\d\d:\d\d:\d\d\.\d+)/) ?? [];
      return { at: date ? Date.parse(date.replace(/\s+/, 'T').slice(0, 23)) : 0, way: /message (sent|received)/.exec(part)?.[1] ?? '', text: part.slice(part.indexOf('\n\n') + 2) };
    });
  }

  /** Waits for a message, such as /^BYE /. */
  message(pattern, way = 'received', withinMs = 10_000) {
    const find = () => this.messages.find((message) => message.way === way && pattern.test(message.text));
    return until(find, () => `SIPp: ${pattern} ${way}; it saw:\n${this.messages.map((m) => `${m.way} ${m.text.split('\n', 1)[0]}`).join('\n')}`, withinMs);
  }

  /** Has a scenario that waits for a word (callee-hangs-up, caller-hangs-up) hang up. */
  async hangUp() {
    await this.word();
    await this.message(/^BYE /, 'sent');
  }

  /** The word that a scenario waits for before it goes on: an INFO in its call, which nobody answers. */
  async word() {
    await until(() => this.messages.some(({ text }) => /^ACK /.test(text)), 'SIPp’s call to be up');
    const [{ text }] = this.messages;
    const [id] = /^Call-ID: .*$/mi.exec(text);
    const word = ['INFO sip:phone@127.0.0.1 SIP/2.0', 'Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKword', 'From: <sip:test@127.0.0.1>;tag=1', 'To: <sip:phone@127.0.0.1>', id.trim(), 'CSeq: 1000 INFO', 'Content-Length: 0', '', ''];
    const socket = dgram.createSocket('udp4');
    await new Promise((resolve, reject) => socket.send(word.join('\r\n'), this.port, '127.0.0.1', (error) => (error ? reject(error) : resolve())));
    socket.close();
  }

  /** Waits until the scenario is over and says whether it went as written. */
  async done() {
    const code = await this.exited;
    if (code === 0) return;
    let errors = '';
    try { errors = readFileSync(this.errorFile, 'utf8'); } catch { /* none written */ }
    throw new Error(`SIPp ended with ${code}:\n${errors}\n${this.output.slice(-1500)}`);
  }
}
