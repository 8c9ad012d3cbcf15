// Publishes one event, and tries again under the same id until the producer has answered. Needs nothing but fetch.
// Every line is also JavaScript: node --input-type=module < publish.ts

const producer = process.env.PRODUCER_URL ?? "http://127.0.0.1:3005";
const event = { event_id: crypto.randomUUID(), type: "order.created", payload: { total: 12.5 } };
const headers = { "Content-Type": "application/json" };
if (process.env.TOKEN) Object.assign(headers, { Authorization: `Bearer ${process.env.TOKEN}` });

for (let pause = 100; ; pause = Math.min(2 * pause, 5000)) {
  const answer = await fetch(`${producer}/publish`, { method: "POST", headers, body: JSON.stringify(event) }).catch(() => null);
  // No answer, or 503: it may be accepted or not. The same id makes another attempt harmless.
  if (answer && answer.status < 500 && answer.status !== 429) {
    console.log(JSON.stringify(await answer.json())); // accepted; duplicate if an earlier attempt was accepted
    process.exitCode = answer.ok ? 0 : 1;
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, pause));
}
