/** Programs started by the tests: each is waited for by what it says or does, and ended by its pid. */

import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const END_WITHIN_MS = 10_000;
const POLL_MS = 20;

/** Waits until `check` gives something true, and gives that back. The one loop that watches the clock. */
export async function until(check, what, withinMs = 10_000, everyMs = POLL_MS) {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${withinMs} ms for ${typeof what === 'function' ? what() : what}`);
    await pause(everyMs);
  }
}

export class Program {
  /** Everything it has written, both streams. */
  output = '';
  stdout = '';

  /** `within` is the namespace to run in, where it is not the tests' own. */
  constructor(command, args, { within, ...options } = {}) {
    this.name = command.split('/').at(-1);
    const [program, ...words] = [...(within?.prefix ?? []), command, ...args];
    this.child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.exited = once(this.child, 'exit').then(([code, signal]) => code ?? signal);
    this.child.on('error', (error) => { this.output += `${error}\n`; });
    this.child.stdout.on('data', (data) => { this.output += data; this.stdout += data; });
    this.child.stderr.on('data', (data) => { this.output += data; });
  }

  get running() { return this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined; }

  /** Waits for a line in its output. */
  says(pattern, withinMs = 15_000) {
    const find = () => {
      const found = this.output.match(pattern);
      if (!found && !this.running) throw new Error(`${this.name} ended before it said ${pattern}:\n${this.output}`);
      return found;
    };
    return until(find, () => `${this.name} to say ${pattern}; it said:\n${this.output}`, withinMs);
  }

  /** Asks it to end, and makes it where it does not. */
  async end(signal = 'SIGTERM') {
    if (this.running) this.child.kill(signal);
    const hard = setTimeout(() => this.child.kill('SIGKILL'), END_WITHIN_MS);
    const code = this.child.pid === undefined ? null : await this.exited;
    clearTimeout(hard);
    return code;
  }
}

/** A free UDP port pair on loopback: an even one, and the odd one above it. */
export async function freeUdpPair() {
  for (let tries = 0; tries < 100; tries++) {
    const port = await freeUdpPort();
    if (port % 2 === 0 && await udpBinds(port + 1)) return port;
  }
  throw new Error('no free pair of UDP ports');
}

export async function freeUdpPort() {
  const socket = dgram.createSocket('udp4');
  await new Promise((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

function udpBinds(port) {
  const socket = dgram.createSocket('udp4');
  return new Promise((resolve) => {
    socket.once('error', () => resolve(false));
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
  });
}

export async function freeTcpPort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Whether something is bound to a UDP port of this network, or of the one that the process `pid` is in. */
export function udpBound(port, pid = 'self') {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  return readFileSync(`/proc/${pid}/net/udp`, 'latin1').split('\n').some((line) => line.trim().split(/\s+/)[1]?.endsWith(`:${hex}`));
}
