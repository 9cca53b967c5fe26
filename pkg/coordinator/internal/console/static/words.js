// Codes and states in plain words. docs/outcomes.md explains all of them.

const codes = {
  // Why a row is dead.
  ROW_UNDECODABLE: "The row does not fit its encoding, or the type that the function takes.",
  MISSING_SHARD_KEY: "The flow's shard key is missing in the row, or is null, an object or a list.",
  ROW_TOO_LARGE: "The row, or its output, is larger than a row may be.",
  FUNCTION_ERROR: "The function returned an error on every try.",
  FUNCTION_PANIC: "The function panicked on every try. The reason has the stack.",
  FUNCTION_TIMEOUT: "The function did not return in its time.",
  ROW_TIMEOUT: "The row took longer than the flow's timeout.",
  LOAD_TIMEOUT: "The key that a Load waits for was not saved in time.",
  LOAD_MISSING: "The key that a Load needs is not there.",
  CONVERSION_FAILED: "The row does not fit the type that the next function takes.",
  ROW_UNENCODABLE: "The output row can't be encoded.",
  SAVE_FAILED: "The store refused the change of this row.",
  LINEAGE_LOST: "An output can't be assigned to an input row.",
  NEEDS_WHOLE_BATCH: "A function asked for an action on the whole run, in a flow with a shard key.",
  STEP_LIMIT: "The row jumped too often.",
  POISON: "Three workers died while they ran this row.",
  MISSING_FIELD: "A field is missing that every row must have.",
  DROPPED: "A function dropped the row.",
  ABORTED: "A function aborted the run of the row.",
  // Why a row failed, or a call was refused.
  NO_CAPABLE_WORKER: "No worker has all functions of the flow.",
  DEADLINE: "The time for the call was over.",
  CONNECTOR_UNAVAILABLE: "The store was away for longer than the row may take.",
  BATCH_TOO_OLD: "The batch is so old that nobody knows any more which of its changes took place.",
  BATCH_GIVEN_UP: "The producer has given the batch up.",
  CANCELLED: "The call was given up.",
  SHUTDOWN: "A process ended.",
  UNKNOWN_FLOW: "There is no such flow.",
  FLOW_DISABLED: "The flow is off or paused.",
  FLOW_UNCOMPILABLE: "The flow's documents have mistakes.",
  OVERLOADED: "The coordinator has no room now.",
  UNAVAILABLE: "The coordinator can't do this now.",
  REVISION_GONE: "The revision is not kept any more.",
  UNAUTHENTICATED: "It is not known who you are.",
  PERMISSION_DENIED: "You lack a right for this.",
  BAD_DOCUMENT: "A document has a mistake.",
  UNKNOWN_FUNCTION: "A document names a function that does not exist.",
  UNKNOWN_CONNECTOR: "A document names a connector that does not exist.",
  NOT_FOUND: "There is no such thing.",
  CONFLICT: "Somebody else has changed it meanwhile.",
  BAD_MESSAGE: "The request is not understood.",
  BATCH_TOO_LARGE: "It is larger than it may be.",
  INTERNAL: "This is a defect of KisGrid.",
  NO_ANSWER: "The coordinator does not answer.",
};

// codesOfLetters are the codes that dead letters have.
export const codesOfLetters = Object.keys(codes).slice(0, Object.keys(codes).indexOf("DROPPED"));

// code returns the name of a code without the prefix that it has in messages.
export const code = (name) => String(name || "").replace(/^CODE_/, "");

// explain returns a sentence about a code, or "" if there is none.
export const explain = (name) => codes[code(name)] || "";

// states has, by the state of a flow, document or rollout: how good it is, and its meaning.
const states = {
  active: ["good", "New rows run on the newest documents."],
  applying: ["busy", "The newest documents are being brought to the workers."],
  pending: ["busy", "The newest documents wait for a worker that can run them."],
  rejected: ["bad", "The newest documents were refused. The revision before goes on."],
  disabled: ["off", "The flow's status is 0: it takes no rows."],
  deleted: ["off", "The document is deleted."],
  unserved: ["bad", "No worker can run the flow now. Its rows wait."],
  degraded: ["warn", "A connector can't be used on some worker. Rows that need it wait there."],
  paused: ["warn", "Somebody has paused the flow: it takes no new rows."],
  connected: ["good", "The store answers."],
  opening: ["busy", "The worker connects to the store."],
  unknown: ["off", "The worker's build does not tell."],
  ready: ["good", "It takes rows."],
  cordoned: ["warn", "It gets no new rows, because somebody has cordoned it."],
  draining: ["warn", "It ends its rows and takes no new ones."],
  away: ["bad", "It does not answer."],
};

// state returns how good a state is: good, busy, warn, bad or off; and its meaning.
export function state(name) {
  const [tone, meaning] = states[name] || ["off", ""];
  return {tone, meaning};
}
