// A running demo of seqgate: a gateway, seqgate and a client in one process.
import { Child, eventually } from '../gateway/lib/house.mjs';

/** Starts one, and waits until it serves; `admin` is the address of its status page and metrics, `http://HOST:PORT/`. */
export async function startDemo() {
  const demo = new Child('demo', process.env.TEST_SEQGATE, ['demo', '--for', '10m']);
  const serves = eventually('the demo', () => /^status +(\S+)/m.exec(demo.output())?.[1]);
  const ends = demo.exited.then((end) => {
    throw new Error(`the demo ended with ${end}: ${demo.output()}`);
  });
  return { demo, admin: await Promise.race([serves, ends]) };
}
