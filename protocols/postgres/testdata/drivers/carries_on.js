// Has node-postgres be refused, and prints what it makes of it and whether it
// carries on. Arguments are a connection string and the verb of what is refused, and
// again.
const { Client, Pool } = require('pg');

const READ = 'SELECT ssn FROM clinic.patients WHERE id = 1';

async function speak(dsn, verb) {
  const NO = verb + ' FROM clinic.patients WHERE id = 1';
  const v = Object.fromEntries(dsn.split(' ').map((p) => p.split('=')));
  const config = { host: v.host, port: +v.port, user: v.user, database: v.dbname };
  const c = new Client(config);
  await c.connect();
  const one = async (q) => (await c.query(q)).rows[0].ssn;
  const attempt = (q) => c.query(q).then((r) => r.command, (e) => e.code);
  const prepared = (name, text, ...values) => ({ name, text, values });

  console.log('alone', await attempt(NO), await one(READ));
  console.log('several', await attempt(`SELECT 1; ${NO}; SELECT 2`), await one(READ));
  console.log('transaction', await attempt('BEGIN'), await one(READ), await attempt(NO), await attempt(READ), await attempt('COMMIT'), await one(READ));
  console.log('savepoint', await attempt('BEGIN'), await attempt('SAVEPOINT s'), await attempt(NO), await attempt('ROLLBACK TO s'), await one(READ), await attempt('COMMIT'));
  for (let i = 0; i < 3; i++) {
    const no = await attempt(prepared('no', NO.replace('1', '$1'), i));
    console.log('prepared', no, await one(prepared('read', 'SELECT ssn FROM clinic.patients WHERE id = $1', 1)));
  }
  // All at once: it queues them, and a refusal is one's own.
  console.log('queue', ...(await Promise.all([attempt(READ), attempt(NO), attempt(prepared('no2', NO)), attempt(READ), attempt('BEGIN'), attempt(NO), attempt(READ), attempt('ROLLBACK'), attempt(READ)])));
  await c.end();
  const pool = new Pool({ ...config, max: 1 });
  console.log('pool', await pool.query(NO).catch((e) => e.code), (await pool.query(READ)).rows[0].ssn);
  await pool.end();
}

(async () => {
  for (let i = 2; i + 1 < process.argv.length; i += 2) {
    console.log('====');
    await speak(process.argv[i], process.argv[i + 1]);
  }
})();
