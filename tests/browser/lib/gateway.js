/** The gateway under test, started as a user would start it. */

import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Program } from './processes.js';

const BINARY = process.env.RINGBACK_BIN;

export class Gateway extends Program {
  /** With no configuration at all: its own test phone answers. */
  static embedded() {
    return Gateway.#start(['run', '--listen', '127.0.0.1:0']);
  }

  /** With a configuration file and a dial plan of the test's. */
  static configured(out, { config, plan, within }) {
    const dir = mkdtempSync(path.join(out, 'gateway-'));
    const file = path.join(dir, 'ringback.toml');
    mkdirSync(path.join(dir, 'plans'));
    writeFileSync(file, config);
    writeFileSync(path.join(dir, 'plans', 'test.toml'), plan);
    return Gateway.#start(['--config', file, 'run'], within).then((gateway) => Object.assign(gateway, { file }));
  }

  static async #start(args, within) {
    if (!BINARY) throw new Error('RINGBACK_BIN names no program: use tests/browser/run');
    const gateway = new Gateway(BINARY, args, { within, env: { ...process.env, NO_COLOR: '1' } });
    const [, url] = await gateway.says(/Ringback is ready: open (https?:\/\/\S+)/);
    gateway.url = url;
    return gateway;
  }

  /** The call records written so far. */
  get records() {
    return this.stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }
}
