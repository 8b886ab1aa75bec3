// A real Prometheus scrapes the demo: the target is up, all rules can be evaluated, and every query of the dashboard
// gives data.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const deploy = new URL('../../deploy/', import.meta.url);
const processes = [];
let folder, prometheus;

function start(program, args, output) {
  const child = spawn(program, args, { stdio: ['ignore', output, output] });
  processes.push(child);
  return child;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function ask(path) {
  const answer = await (await fetch(`${prometheus}${path}`)).json();
  assert.equal(answer.status, 'success', JSON.stringify(answer));
  return answer.data;
}

async function eventually(what, holds) {
  let last;
  for (let tries = 0; tries < 300; tries++) {
    try {
      last = await holds();
      if (last) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`waited in vain for ${what}: ${last}`);
}

before(async () => {
  const demo = start(process.env.TEST_SEQGATE, ['demo', '--for', '10m'], 'pipe');
  demo.stderr.pipe(process.stderr);
  const address = await new Promise((resolve, reject) => {
    let text = '';
    let found;
    demo.once('exit', (code) => reject(new Error(`the demo ended with ${code}: ${text}`)));
    demo.stdout.on('data', (data) => {
      if (found) return;
      text += data;
      found = /^status +http:\/\/([^/]+)/m.exec(text);
      if (found) resolve(found[1]);
    });
  });
  folder = await mkdtemp(join(tmpdir(), 'seqgate-'));
  await copyFile(new URL('prometheus/seqgate.rules.yaml', deploy), join(folder, 'seqgate.rules.yaml'));
  const config = (await readFile(new URL('prometheus/prometheus.yaml', deploy), 'utf8'))
    .replaceAll('15s', '1s')
    .replace('seqgate:18901', address);
  await writeFile(join(folder, 'prometheus.yaml'), config);
  const port = await freePort();
  prometheus = `http://127.0.0.1:${port}`;
  start('prometheus', [
    `--config.file=${folder}/prometheus.yaml`,
    `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=error',
  ], 'inherit');
});

after(async () => {
  for (const child of processes) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  if (folder) await rm(folder, { recursive: true });
});

test('Prometheus scrapes it', async () => {
  await eventually('the target', async () => {
    const { activeTargets } = await ask('/api/v1/targets');
    return activeTargets.length === 1 && activeTargets[0].health === 'up';
  });
});

test('all rules can be evaluated, and nothing fires on a demo that is well', async () => {
  const rules = async () => (await ask('/api/v1/rules')).groups.flatMap((group) => group.rules);
  await eventually('the rules', async () => {
    const all = await rules();
    return all.length > 11 && all.every((rule) => rule.health === 'ok');
  });
  const alerts = (await rules()).filter((rule) => rule.type === 'alerting' && rule.state !== 'inactive');
  assert.deepEqual(alerts.map((rule) => rule.name), []);
});

test('every query of the dashboard gives data', async () => {
  const dashboard = JSON.parse(await readFile(new URL('grafana/seqgate.json', deploy), 'utf8'));
  const targets = dashboard.panels.flatMap((panel) => (panel.targets ?? []).map((target) => [panel.title, target.expr]));
  assert.ok(targets.length > 40, String(targets.length));
  for (const [title, expr] of targets) {
    const query = expr.replaceAll('$__rate_interval', '10s').replaceAll('$job', '.*').replaceAll('$instance', '.*');
    assert.ok(!query.includes('$'), query);
    await eventually(`data for ${title}: ${query}`, async () => {
      return (await ask(`/api/v1/query?query=${encodeURIComponent(query)}`)).result.length > 0;
    });
  }
  for (const variable of dashboard.templating.list.filter((v) => v.type === 'query')) {
    assert.match(variable.query.query, /^label_values\(seqgate_build_info/);
  }
});
