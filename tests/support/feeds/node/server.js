// Socket.IO and graphql-transport-ws as their authors publish them, on one port of the loopback address.
//
//     node server.js PORT FIRST-NUMBER
//
// Commands come by standard input: "publish COUNT", and "end FEED", which ends one client's subscription.
// Each change is one line of JSON on standard output.

const { createServer } = require("node:http");
const readline = require("node:readline");
const { setImmediate: turn } = require("node:timers/promises");
const { buildSchema } = require("graphql");
const { useServer } = require("graphql-ws/use/ws");
const { Server } = require("socket.io");
const { WebSocketServer } = require("ws");

const SCHEMA = buildSchema(`
  type Query { nothing: Int }
  type Tick { id: ID! n: Int! }
  type Price { id: ID! price: Int! }
  type Subscription { tick: Tick! bid: Price! ask: Price! }
`);
const [port, first] = process.argv.slice(2).map(Number);
const state = {
  published: first,
  socketio: { connections: 0, subscribed: 0, pongs: 0 },
  "graphql-transport-ws": { connections: 0, subscribed: 0 },
};
const report = () => console.log(JSON.stringify({ ...state, port: http.address().port }));
const http = createServer();

// A ping each 300 ms: a client that does not answer is gone within the test.
const io = new Server(http, { pingInterval: 300, pingTimeout: 2000, transports: ["websocket"] });
const sockets = new Set();
io.on("connection", (socket) => {
  sockets.add(socket);
  state.socketio.connections += 1;
  socket.conn.on("packet", ({ type }) => {
    if (type === "pong") {
      state.socketio.pongs += 1;
      report();
    }
  });
  socket.on("disconnect", () => {
    sockets.delete(socket);
    counted();
  });
  counted();
});

const subscribers = new Set();
async function* subscription(field, make, context) {
  const mine = { waiting: [], wake: () => {}, make, socket: context.extra.socket };
  subscribers.add(mine);
  mine.socket.once("close", () => leave(mine)); // the library waits for the generator, which waits for a tick
  state["graphql-transport-ws"].connections += 1;
  counted();
  try {
    while (true) {
      while (mine.waiting.length) {
        const item = mine.waiting.shift();
        if (item === null) return;
        yield { [field]: item };
      }
      await new Promise((resolve) => (mine.wake = resolve));
    }
  } finally {
    leave(mine);
  }
}
function leave(subscriber) {
  subscriber.waiting.push(null);
  subscriber.wake();
  if (subscribers.delete(subscriber)) counted();
}
const graphql = new WebSocketServer({ noServer: true });
const roots = {
  subscription: {
    tick: (_, context) => subscription("tick", (n) => ({ id: `g${n}`, n }), context),
    bid: (_, context) => subscription("bid", (n) => ({ id: `b${n}`, price: n }), context),
    ask: (_, context) => subscription("ask", (n) => ({ id: `a${n}`, price: n }), context),
  },
};
useServer({ schema: SCHEMA, roots, context: (context) => context }, graphql, 300);
http.on("upgrade", (request, socket, head) => {
  if (request.url === "/graphql") {
    graphql.handleUpgrade(request, socket, head, (client) => graphql.emit("connection", client, request));
  }
});

function counted() {
  state.socketio.subscribed = sockets.size;
  state["graphql-transport-ws"].subscribed = subscribers.size;
  report();
}

async function publish(count) {
  for (let left = count; left > 0; left -= 1) {
    const n = state.published;
    state.published += 1;
    for (const socket of sockets) socket.emit("event", { event_id: `s${n}`, n });
    for (const one of subscribers) {
      one.waiting.push(one.make(n));
      one.wake();
    }
    await turn();
  }
  report();
}

// The oldest subscription ends, in a different way each time.
const ends = {
  socketio: [(one) => one.disconnect(), (one) => one.disconnect(true)],
  "graphql-transport-ws": [leave, (one) => one.socket.close(1001, "going away")],
};
function end(feed) {
  const [oldest] = feed === "socketio" ? sockets : subscribers;
  const how = ends[feed].shift();
  ends[feed].push(how);
  how(oldest);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, value] = line.split(" ");
  if (command === "publish") publish(Number(value));
  else end(value);
}).on("close", () => process.exit(0));
http.listen(port, "127.0.0.1", report);
