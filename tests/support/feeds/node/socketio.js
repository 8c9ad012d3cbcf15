// Socket.IO as its authors publish it, with what the raw profile cannot read: a namespace with a password, binary
// events, events with several arguments, and events that ask for an acknowledgement.
//
//     node socketio.js PORT FIRST-NUMBER
//
// RECOVERY=1 switches connection state recovery on; no event then asks for an acknowledgement, since the server sends
// none of those again. Commands come by standard input: "publish COUNT", and "end socketio", which ends one client.
// Each change is one line of JSON on standard output.

const { createServer } = require("node:http");
const readline = require("node:readline");
const { setImmediate: turn } = require("node:timers/promises");
const { Server } = require("socket.io");

const [port, first] = process.argv.slice(2).map(Number);
const recovery = process.env.RECOVERY === "1";
const state = { published: first, socketio: { connections: 0, subscribed: 0, recovered: 0, asked: 0, acked: {} } };
const report = () => console.log(JSON.stringify({ ...state, port: http.address().port }));
const http = createServer();
const io = new Server(http, {
  pingInterval: 300,
  pingTimeout: 2000,
  transports: ["websocket"],
  ...(recovery ? { connectionStateRecovery: { maxDisconnectionDuration: 60000 } } : {}),
});
const orders = io.of("/orders");
const sockets = new Set();
orders.use((socket, next) => (socket.handshake.auth.key === "sesame" ? next() : next(new Error("who are you?"))));
orders.on("connection", (socket) => {
  sockets.add(socket);
  state.socketio.connections += 1;
  if (socket.recovered) state.socketio.recovered += 1;
  socket.on("disconnect", () => {
    sockets.delete(socket);
    counted();
  });
  counted();
});

function counted() {
  state.socketio.subscribed = sockets.size;
  report();
}

const image = (n) => Buffer.from([0, 255, n % 256]);
const kinds = [
  (order) => orders.emit("order", order),
  (order) => orders.emit("picture", { ...order, image: image(order.n), parts: [image(order.n + 1)] }),
  (order) => orders.emit("order", order, `note ${order.n}`, image(order.n)),
  (order) => {
    if (recovery) return orders.emit("order", order);
    for (const socket of sockets) {
      state.socketio.asked += 1;
      socket.emit("order", { ...order, image: image(order.n) }, () => {
        state.socketio.acked[order.event_id] = (state.socketio.acked[order.event_id] || 0) + 1;
        report();
      });
    }
  },
];

async function publish(count) {
  for (let left = count; left > 0; left -= 1) {
    const n = state.published;
    state.published += 1;
    kinds[n % kinds.length]({ event_id: `o${n}`, n });
    await turn();
  }
  report();
}

// The oldest client is ended, in a different way each time. With recovery, only in ways that leave its session.
const ends = recovery
  ? [(one) => one.conn.transport.socket.terminate(), (one) => one.conn.close()]
  : [(one) => one.disconnect(), (one) => one.disconnect(true), (one) => one.conn.transport.socket.terminate()];
function end() {
  const [oldest] = sockets;
  const how = ends.shift();
  ends.push(how);
  how(oldest);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, value] = line.split(" ");
  if (command === "publish") publish(Number(value));
  else end();
}).on("close", () => process.exit(0));
http.listen(port, "127.0.0.1", report);
