package definition

import "strings"

// documentKey is one key of a mapping in documents. The parser takes the keys of these tables and no others, and Schema describes them to
// editors.
type documentKey struct {
	name string
	// about explains the key, for editors.
	about string
	// value describes the values of the key as JSON Schema does.
	value schema
	// must says that a document without the key is refused.
	must bool
	// mode is the mode of the functions that may have the key; empty means all.
	mode Mode
}

// documentKeys are the keys of one mapping, in the order in which messages list them.
type documentKeys []documentKey

// names returns the names of the keys.
func (ks documentKeys) names() []string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.name
	}
	return names
}

// The keys of each kind of document.
var (
	flowKeys = documentKeys{
		{name: "kistype", must: true, value: schema{"const": "flow"}, about: "flow: a chain of functions that rows pass through."},
		{name: "status", value: integerSchema(0, 1), about: "1 is on, 0 is off; a flow that is off refuses rows. Default 0."},
		{name: "flow_name", must: true, value: nameSchema, about: "The flow's name."},
		{name: "flows", must: true, value: schema{"type": "array", "minItems": 1, "items": stepKeys.schema()}, about: "The functions that rows pass through, in order."},
		{name: "shard_key", value: textSchema, about: "The field of a row that decides to which worker and lane it goes. Rows with the same value keep their order. Without it a batch goes whole to one worker."},
		{name: "copies", value: integerSchema(1, MaxCopies), about: "How many of the flow's rows a worker runs at the same time. Default: the worker's processors."},
		{name: "timeout", value: durationSchema, about: "How long a row may take once it has begun, with all its waiting. Default 1m."},
	}
	// stepKeys are the keys of an entry of flows.
	stepKeys = documentKeys{
		{name: "fname", must: true, value: nameSchema, about: "The name of the function."},
		{name: "params", value: textMapSchema, about: "Parameters, which replace the function's default_params of the same names. In expressions they keep their types: params.limit."},
	}
	functionKeys = documentKeys{
		{name: "kistype", must: true, value: schema{"const": "func"}, about: "func: a function, which is written in Go or is made of this document."},
		{name: "fname", must: true, value: nameSchema, about: "The function's name. A Go function is registered under it."},
		{name: "fmode", must: true, value: schema{"enum": modes}, about: "What the function is for: Verify lets rows pass or not, Calculate makes another row of each, Expand any number of rows, Save writes to a connector, Load reads from one."},
		{name: "source", value: sourceKeys.schema(), about: "What the rows are."},
		{name: "option", value: functionOptions.schema(), about: "How the function works."},
		{name: "timeout", value: durationSchema, about: "How long one call may take; its row is dead then. Default 30s."},
	}
	// sourceKeys are the keys under source.
	sourceKeys = documentKeys{
		{name: "name", value: textSchema, about: "A name for people."},
		{name: "must", value: textsSchema, about: "Fields without which a row is dead."},
		{name: "fields", value: schema{"type": "object", "additionalProperties": schema{"$ref": "#/definitions/type"}}, about: "The types of the rows' fields, for expressions: {stu_id: int, note: \"string?\"}. With them, mistakes are found before any row runs."},
	}
	// functionOptions are the keys under option.
	functionOptions = documentKeys{
		{name: "cname", value: nameSchema, about: "The connector that the function saves to or loads from."},
		{name: "retry_times", value: integerSchema(0, maxInt32), about: "How often a call that failed is tried again. Default 0."},
		{name: "retry_duration", value: schema{"anyOf": []schema{durationSchema, integerSchema(0, maxInt64)}}, about: "How long to wait before a call is tried again, as a duration or in milliseconds. Default 0."},
		{name: "return_duration", value: integerSchema(0, maxInt64), about: "KisFlow's spelling of retry_duration, in milliseconds."},
		{name: "default_params", value: textMapSchema, about: "Parameters, which a flow's params replace. In expressions they keep their types: params.limit."},
		{name: "on_missing", mode: ModeLoad, value: schema{"enum": []any{string(OnMissingWait), string(OnMissingDead), string(OnMissingNull), nil}}, about: "What a Load does when its key is not there: the row waits for it, or is dead, or goes on without. Default wait."},
		{name: "wait", mode: ModeLoad, value: durationSchema, about: "How long a Load waits for its key. Default 30s."},
		{name: "save", mode: ModeSave, value: saveSchema(), about: "A Save without Go code."},
		{name: "load", mode: ModeLoad, value: loadKeys.schema(), about: "A Load without Go code."},
		{name: "verify", mode: ModeVerify, value: expressionSchema, about: "A Verify without Go code: an expression that is true for the rows that pass."},
		{name: "reason", mode: ModeVerify, value: expressionSchema, about: "An expression for the reason why a row does not pass."},
		{name: "calculate", mode: ModeCalculate, value: expressionsSchema, about: "A Calculate without Go code: each field of the new row, with its expression."},
		{name: "keep", mode: ModeCalculate, value: schema{"anyOf": []schema{{"const": "all"}, textsSchema}}, about: "all, or a list of names: other fields of the row, which calculate passes on as they are."},
		{name: "expand", mode: ModeExpand, value: expandKeys.schema(), about: "An Expand without Go code: a row for each element of a list."},
	}
	// saveKeys are the keys under option.save. All but the first are operations, of which there is one.
	saveKeys = documentKeys{
		{name: "key", must: true, value: textSchema, about: "The key to write: a template such as \"{stu_id}\", or \"= expression\"."},
		{name: "set", value: fieldMapSchema, about: "Fields of the key, each with the field of the row that it gets, or with \"= expression\"."},
		{name: "incr", value: fieldMapSchema, about: "Fields of the key, each with the field of the row that is added to it, or with \"= expression\"."},
		{name: "append", value: fieldMapSchema, about: "A field of the row, or \"= expression\", whose value is put at the end of the key's list."},
		{name: "delete", value: schema{"const": true}, about: "true: the key is deleted."},
	}
	// loadKeys are the keys under option.load.
	loadKeys = documentKeys{
		{name: "key", must: true, value: textSchema, about: "The key to read: a template such as \"{stu_id}\", or \"= expression\"."},
		{name: "set", must: true, value: fieldMapSchema, about: "Fields of the row, each with the field of the key that it gets."},
		{name: "types", value: schema{"type": "object", "additionalProperties": schema{"enum": loadTypes}}, about: "The types of fields that set names, where no later function decides them."},
	}
	// expandKeys are the keys under option.expand.
	expandKeys = documentKeys{
		{name: "each", must: true, value: expressionSchema, about: "An expression that gives a list."},
		{name: "as", value: textSchema, about: "The name of an element in where and set. Default item."},
		{name: "where", value: expressionSchema, about: "An expression that is true for the elements that become rows. Default: all do."},
		{name: "set", value: expressionsSchema, about: "Each field of the new row, with its expression. Without it the elements are the rows."},
	}
	connectorKeys = documentKeys{
		{name: "kistype", must: true, value: schema{"const": "conn"}, about: "conn: a store that flows share."},
		{name: "cname", must: true, value: nameSchema, about: "The connector's name."},
		{name: "addrs", value: textSchema, about: "The store's addresses, separated by commas: host:port. ${NAME} stands for a variable of the worker's environment, ${NAME:default} too. Must be given, except for memory."},
		{name: "type", must: true, value: schema{"enum": connectorTypes}, about: "The kind of store. memory is for trials: each worker then has a store of its own."},
		{name: "key", value: textSchema, about: "The beginning of each key in the store."},
		{name: "params", value: paramsSchema(), about: "Parameters of the connection."},
		{name: "load", value: textsSchema, about: "KisFlow's list of functions; KisGrid does not look at it."},
		{name: "save", value: textsSchema, about: "KisFlow's list of functions; KisGrid does not look at it."},
		{name: "tls", value: schema{"type": "boolean"}, about: "Whether the connection uses TLS. Default false."},
		{name: "username", value: textSchema, about: "The name of the user."},
		{name: "password_file", value: textSchema, about: "A file of the worker that has the password."},
		{name: "flows", value: schema{"type": "array", "minItems": 1, "items": textSchema}, about: "The flows that may use the connector. A name with a * at its end stands for all names that begin so. Default: all flows."},
		{name: "replicas", value: integerSchema(0, maxInt32), about: "How many replicas must have a Save before it counts as done. Default 0."},
	}
	globalKeys = documentKeys{
		{name: "kistype", must: true, value: schema{"const": "global"}, about: "global: settings of a process that runs flows without a cluster."},
		{name: "prometheus_enable", value: schema{"type": "boolean"}, about: "Whether there are metrics."},
		{name: "prometheus_listen", value: schema{"type": "boolean"}, about: "Whether the metrics are served."},
		{name: "prometheus_serve", value: textSchema, about: "The address at which they are served."},
	}
)

// optionKeys are the names of the keys under option.
var optionKeys = functionOptions.names()

// keysOfKind has the keys of each kind of document.
var keysOfKind = map[Kind]documentKeys{KindFlow: flowKeys, KindFunc: functionKeys, KindConn: connectorKeys, KindGlobal: globalKeys}

// title returns the first sentence of an explanation, without its end.
func title(about string) string {
	first, _, _ := strings.Cut(about, ". ")
	return strings.TrimSuffix(first, ".")
}
