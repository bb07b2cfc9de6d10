// graphile-worker at its best: a local queue, and completions in batches. Usage: node graphile.mjs fill N | drain
import { Logger, makeWorkerUtils, runOnce } from "graphile-worker";

const [action, count] = process.argv.slice(2);
const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});

async function fill() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.withPgClient((client) =>
    client.query(
      `SELECT graphile_worker.add_jobs(array_agg(json_populate_record(NULL::graphile_worker.job_spec,
         json_build_object('identifier', 'bench', 'payload',
           '{"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}'::json))))
       FROM generate_series(1, $1)`,
      [Number(count)],
    ),
  );
  await utils.release();
}

async function drain() {
  let first, last;
  let jobs = 0;
  const bench = async (payload) => {
    if (payload.tool_name !== "Bash") throw new Error("unexpected tool");
    last = Date.now() / 1000;
    first ??= last;
    jobs += 1;
  };
  const worker = {
    connectionString,
    logger,
    concurrentJobs: 24,
    maxPoolSize: 25,
    pollInterval: 2000,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  };
  await runOnce({ preset: { worker }, taskList: { bench } });
  console.log(JSON.stringify({ first, last, jobs }));
}

await (action === "fill" ? fill() : drain());
process.exit(0);
