// A real Prometheus scrapes the demo: the target is up, all rules can be evaluated, and every query of the dashboard
// gives data.
import assert from 'node:assert/strict';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Child, eventually, folder, freePort } from '../gateway/lib/house.mjs';
import { startDemo } from '../page/demo.mjs';

const deploy = new URL('../../deploy/', import.meta.url);
const processes = [];
let prometheus;

async function ask(path) {
  const answer = await (await fetch(`${prometheus}${path}`)).json();
  assert.equal(answer.status, 'success', JSON.stringify(answer));
  return answer.data;
}

before(async () => {
  const { demo, admin } = await startDemo();
  processes.push(demo);
  await copyFile(new URL('prometheus/seqgate.rules.yaml', deploy), join(folder, 'seqgate.rules.yaml'));
  const config = (await readFile(new URL('prometheus/prometheus.yaml', deploy), 'utf8'))
    .replaceAll('15s', '1s')
    .replace('seqgate:18901', new URL(admin).host);
  await writeFile(join(folder, 'prometheus.yaml'), config);
  const port = await freePort();
  prometheus = `http://127.0.0.1:${port}`;
  processes.push(new Child('prometheus', 'prometheus', [
    `--config.file=${folder}/prometheus.yaml`,
    `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=error',
  ]));
});

after(() => Promise.all(processes.map((child) => child.stop())));

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
