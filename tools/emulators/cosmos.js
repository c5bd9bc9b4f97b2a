// An emulator of an Azure Cosmos DB account for tests: @vercel/cosmosdb-server with what a store relies on repaired.
//
//     NODE_PATH=build/emulators/node_modules node tools/emulators/cosmos.js PORT
//
// It listens on 127.0.0.1 only, on a free port for PORT 0, keeps everything in memory and prints "ready PORT". Keys are
// not checked. tests/adapters/cosmos/test_emulator.py has a test for every repair, which fails without the repair.
//
// Beside the account's own paths there are some for tests:
//   POST /_tests/failures   {status, headers, message, text, on, times, operation}: the next `times` requests of a kind
//                           ("batch", "query", "read", "meta"; any if left out) fail with this status before anything
//                           is done. With `operation` it is that operation of a batch that fails; `text` is
//                           the whole answer as it is.
//   POST /_tests/clock      {ahead_s}: expire items as if it were so much later
//   DELETE /_tests          forget both
//   GET /_tests/requests    how many of each kind came since the last time this was asked, how many with which level
//                           of consistency, and the largest body of them
"use strict";

const LIB = "@vercel/cosmosdb-server/lib/";
const Items = require(`${LIB}account/items`).default;
const json = require(`${LIB}json`).default;
const operations = require(`${LIB}handler/_document-operations`);

const REQUEST_BYTES_MAX = 2 * 1024 * 1024;
const BATCH_OPERATIONS_MAX = 100;
const PARTITION_HEADER = "x-ms-documentdb-partitionkey";
const OWNER_NOT_FOUND = "1003"; // the sub-status that tells a container that is not there from an item that is not

const failures = [];
let requests = {};
let aheadS = 0; // how far this account's time is ahead when it looks what has expired

// The stock index joins partition, path and id with ":" and so takes ("a", "b:c") and ("a:b", "c") for one another.
function tellIdsApart() {
  Items.prototype._getId = (path, id, partition) => JSON.stringify([partition === undefined ? id : partition, path, id]);
}

// Every request to the stock emulator goes through all items there are, which with some thousands of them takes longer
// than clients wait. Here items are known by partition, those that may expire are known, and a batch notes what it
// changed instead of copying everything before.
class Undoable extends Map {
  undo = null;
  set(key, value) {
    if (this.undo) this.undo.push([key, this.get(key)]);
    return super.set(key, value);
  }
  delete(key) {
    if (this.undo && this.has(key)) this.undo.push([key, this.get(key)]);
    return super.delete(key);
  }
  undone() {
    const changes = this.undo.reverse();
    this.undo = null;
    for (const [key, value] of changes) value === undefined ? this.delete(key) : this.set(key, value);
  }
}

class Held extends Undoable {
  constructor(partitionOf) {
    super();
    this.partitionOf = partitionOf;
    this.partitions = new Map();
    this.mortal = new Set();
  }
  set(rid, item) {
    this.delete(rid);
    const data = item.read();
    const partition = this.partitionOf(data);
    if (!this.partitions.has(partition)) this.partitions.set(partition, new Map());
    this.partitions.get(partition).set(rid, item);
    this.partitions.get(partition).sorted = undefined;
    if (data.ttl !== undefined) this.mortal.add(rid);
    return super.set(rid, item);
  }
  delete(rid) {
    const item = this.get(rid);
    if (item === undefined) return false;
    const partition = this.partitionOf(item.read());
    const others = this.partitions.get(partition);
    others.delete(rid);
    others.sorted = undefined;
    if (others.size === 0) this.partitions.delete(partition);
    this.mortal.delete(rid);
    return super.delete(rid);
  }
}

function hold(items) {
  if (items._data instanceof Held) return;
  const held = new Held((data) => items._getPartition(data));
  for (const [rid, item] of items._data) held.set(rid, item);
  const index = new Undoable();
  for (const [key, rid] of items._index) index.set(key, rid);
  items._data = held;
  items._index = index;
}

// What a query of one partition, and of a range of ids in it, can find; the stock query then looks at nothing else. Of a
// first page in the order of ids that is one item more than the page, so that it knows that there is another.
function narrow(items, { query, parameters = [] }, { maxItemCount, continuation } = {}) {
  const given = (name) => (parameters.find((one) => one.name === name) || {}).value;
  if (!/ c\.p = @p( |$)/.test(query) || / OR /.test(query)) return items._data;
  const found = items._data.partitions.get(given("@p")) || new Map();
  if (!query.includes("c.id >= @start AND c.id < @end")) return found;
  const [start, end] = [given("@start"), given("@end")];
  const sorted = inOrder(found);
  let within = sorted.slice(firstFrom(sorted, start), firstFrom(sorted, end));
  const order = query.match(/ ORDER BY c\.id (ASC|DESC)$/);
  if (order && maxItemCount > 0 && !continuation) {
    within = order[1] === "ASC" ? within.slice(0, maxItemCount + 1) : within.slice(-maxItemCount - 1);
  }
  return new Map(within.map(({ rid, item }) => [rid, item]));
}

// The items of a partition by their ids, sorted again only after one came or went.
function inOrder(found) {
  if (!found.sorted) {
    found.sorted = [...found].map(([rid, item]) => ({ id: item.read().id, rid, item }));
    found.sorted.sort((one, other) => (one.id < other.id ? -1 : 1));
  }
  return found.sorted;
}

function firstFrom(sorted, id) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle].id < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

function lookAtFew() {
  const stock = Items.prototype.query;
  Items.prototype.query = function repaired(params, options) {
    hold(this);
    const all = this._data;
    this._data = narrow(this, params, options);
    try {
      return stock.call(this, params, options);
    } finally {
      this._data = all;
    }
  };
}

// The stock emulator knows no time to live. Here, as in the account, an item is gone when its time has come if the
// container has a default (-1: only items that say so expire); `ttl` counts from the item's last write.
function expireItems() {
  const removeExpired = (items) => {
    const container = items._parent.read && items._parent.read();
    const byDefault = container && container.defaultTtl;
    if (!byDefault) return;
    for (const rid of [...(byDefault === -1 ? items._data.mortal : items._data.keys())]) {
      const item = items._data.get(rid).read();
      const ttl = item.ttl === undefined ? byDefault : item.ttl;
      const isOver = ttl >= 0 && item._ts + ttl <= Date.now() / 1000 + aheadS;
      if (isOver) items.delete(item.id, items._getPartition(item));
    }
  };
  for (const name of ["create", "query", "read", "upsert", "replace", "_item"]) {
    const stock = Items.prototype[name];
    Items.prototype[name] = function repaired(...values) {
      hold(this);
      if (!this.isExpiring && this._data.size > 0) {
        this.isExpiring = true; // removal looks items up by itself
        try {
          removeExpired(this);
        } finally {
          this.isExpiring = false;
        }
      }
      return stock.apply(this, values);
    };
  }
}

const replaceHandler = (name, handler) => {
  require(`${LIB}handler/${name}`).default = handler;
};
const fail = (res, status, code, message) => {
  res.statusCode = status;
  return { code, message };
};
const findContainer = (account, { dbId, collId }) => account.database(dbId).collection(collId);
const noContainer = (res) => {
  res.setHeader("x-ms-substatus", OWNER_NOT_FOUND);
  return fail(res, 404, "NotFound", "Owner resource does not exist");
};

// Where the container is missing, stock handlers fail with 500, or say 404 as if only the item were missing.
function missContainers() {
  for (const name of ["create", "delete", "query", "replace", "upsert"]) {
    const file = name === "query" ? "query-documents" : `${name}-document`;
    const stock = require(`${LIB}handler/${file}`).default;
    replaceHandler(file, (account, req, res, params) =>
      findContainer(account, params).read() ? stock(account, req, res, params) : noContainer(res),
    );
  }
}

// A point read of what is not there is 500 in the stock emulator.
function readItems() {
  replaceHandler("read-document", (account, req, res, params) => {
    const container = findContainer(account, params);
    if (!container.read()) return noContainer(res);
    const found = operations.readOperation(container, { partitionKey: req.headers[PARTITION_HEADER], id: params.docId });
    res.statusCode = found.statusCode;
    if (found.statusCode === 200 && req.headers["if-none-match"] === found.body._etag) {
      res.statusCode = 304;
      return {};
    }
    return found.body;
  });
}

// An upsert with "If-None-Match: *" writes only where nothing is; the stock emulator overwrites.
function honourIfNoneMatch() {
  const stock = require(`${LIB}handler/upsert-document`).default;
  replaceHandler("upsert-document", async (account, req, res, params) => {
    if (req.headers["if-none-match"] !== "*") return stock(account, req, res, params);
    const made = operations.createOperation(findContainer(account, params), { resourceBody: await json(req) });
    if (made.statusCode === 409) return fail(res, 412, "PreconditionFailed", "The item exists");
    res.statusCode = made.statusCode;
    return made.body;
  });
}

// The stock batch keeps what it did before the operation that failed, takes any number of operations, looks for the
// partition in each of them instead of the header, answers 200 to a failed batch, and says 424 only after the failure.
function makeBatchesAtomic() {
  const perform = {
    Create: operations.createOperation,
    Delete: operations.deleteOperation,
    Read: operations.readOperation,
    Replace: operations.replaceOperation,
    Upsert: operations.upsertOperation,
  };
  replaceHandler("batch-documents", async (account, req, res, params) => {
    const container = findContainer(account, params);
    if (!container.read()) return noContainer(res);
    const batch = await json(req);
    if (!Array.isArray(batch) || batch.some((one) => !perform[one.operationType])) {
      return fail(res, 400, "BadRequest", "The batch holds something that is no operation");
    }
    if (batch.length > BATCH_OPERATIONS_MAX) {
      return fail(res, 400, "BadRequest", `Batch request has more operations than ${BATCH_OPERATIONS_MAX}`);
    }
    const injected = takeFailure("batch", { ofOperation: true });
    const undo = remember(container.documents);
    const answers = [];
    for (const [index, operation] of batch.entries()) {
      const answer =
        injected && injected.operation === index
          ? { statusCode: injected.status }
          : perform[operation.operationType](container, { ...operation, partitionKey: req.headers[PARTITION_HEADER] });
      if (answer.statusCode >= 400) {
        undo();
        res.statusCode = 207;
        return batch.map((_, other) => ({ statusCode: other === index ? answer.statusCode : 424, requestCharge: 0 }));
      }
      const body = answer.body;
      answers.push({ statusCode: answer.statusCode, requestCharge: 1, eTag: body && body._etag, resourceBody: body });
    }
    container.documents._data.undo = container.documents._index.undo = null;
    return answers;
  });
}

function remember(items) {
  hold(items);
  items._data.undo = [];
  items._index.undo = [];
  const count = items._ridCount;
  return () => {
    items._data.undone();
    items._index.undone();
    items._ridCount = count;
  };
}

const kindOf = (req) => {
  if (req.headers["x-ms-cosmos-is-batch-request"]) return "batch";
  if (req.headers["content-type"] === "application/query+json") return "query";
  return /\/docs\//.test(req.url) && req.method === "GET" ? "read" : "meta";
};

function takeFailure(kind, { ofOperation }) {
  const index = failures.findIndex(
    (failure) => (failure.on || kind) === kind && (failure.operation !== undefined) === ofOperation,
  );
  if (index < 0) return undefined;
  const failure = failures[index];
  failure.times = (failure.times || 1) - 1;
  if (failure.times === 0) failures.splice(index, 1);
  return failure;
}

const answer = (res, status, body, headers = {}) => {
  res.writeHead(status, { "content-type": "application/json", ...headers });
  res.end(JSON.stringify(body));
};

async function answerTests(req, res) {
  if (req.url === "/_tests/requests") {
    answer(res, 200, requests);
    requests = {};
  } else if (req.method === "DELETE") {
    failures.length = 0;
    aheadS = 0;
    answer(res, 200, {});
  } else if (req.url === "/_tests/clock") {
    aheadS = (await json(req)).ahead_s;
    answer(res, 200, {});
  } else {
    failures.push(await json(req));
    answer(res, 200, {});
  }
}

// The account refuses what is over 2 MB; the stock emulator takes everything.
const isTooLarge = (req) => Number(req.headers["content-length"] || 0) > REQUEST_BYTES_MAX;

function guard(stock) {
  return (req, res) => {
    if (req.url.startsWith("/_tests")) {
      answerTests(req, res).catch((error) => answer(res, 500, { message: error.message }));
      return;
    }
    const kind = kindOf(req);
    requests[kind] = (requests[kind] || 0) + 1;
    const level = `consistency ${req.headers["x-ms-consistency-level"] || "unsaid"}`;
    requests[level] = (requests[level] || 0) + 1;
    requests.bytes = Math.max(requests.bytes || 0, Number(req.headers["content-length"] || 0));
    const injected = takeFailure(kind, { ofOperation: false });
    if (injected) {
      req.resume();
      if (injected.text === undefined) {
        answer(res, injected.status, { code: "Injected", message: injected.message || "Injected" }, injected.headers);
      } else {
        res.writeHead(injected.status, injected.headers);
        res.end(injected.text);
      }
    } else if (isTooLarge(req)) {
      req.resume();
      answer(res, 413, { code: "RequestEntityTooLarge", message: "Request size is too large" });
    } else {
      stock(req, res);
    }
  };
}

function main(port) {
  tellIdsApart();
  lookAtFew();
  expireItems();
  readItems();
  honourIfNoneMatch();
  makeBatchesAtomic();
  missContainers();
  // Only now: the routes take the handlers as they are when they are first loaded.
  const { createHttpServer } = require("@vercel/cosmosdb-server");
  const server = createHttpServer({ keepAlive: true });
  const [stock] = server.listeners("request");
  server.removeListener("request", stock);
  server.on("request", guard(stock));
  server.listen(port, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
}

main(Number(process.argv[2] || 0));
