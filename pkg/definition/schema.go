package definition

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// Bounds of numbers in documents.
const (
	maxInt32 = math.MaxInt32
	maxInt64 = math.MaxInt64 / 1_000_000 // milliseconds that a time.Duration can have
)

// Schemas of values that several keys have. A text may be written as a number or as true, as in KisFlow.
var (
	textSchema     = schema{"type": []string{"string", "number", "boolean"}}
	nameSchema     = schema{"type": []string{"string", "number", "boolean"}, "minLength": 1, "maxLength": 253, "pattern": `^[^/]*$`}
	textsSchema    = schema{"type": "array", "items": textSchema}
	textMapSchema  = schema{"type": "object", "additionalProperties": schema{"type": []string{"string", "number", "boolean", "null"}}}
	fieldMapSchema = schema{"type": "object", "minProperties": 1, "additionalProperties": schema{"type": []string{"string", "number", "boolean"}, "minLength": 1}}
	durationSchema = schema{
		"type": "string", "pattern": `^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`, "patternErrorMessage": "write a duration such as 30s, 500ms or 1m30s",
	}
	expressionSchema  = schema{"type": []string{"string", "number", "boolean"}, "$comment": "docs/expressions.md describes the language"}
	expressionsSchema = schema{"type": "object", "additionalProperties": schema{"type": []string{"string", "number", "boolean", "null"}}}
	typeSchema        = schema{
		"description": "A type: int, float, string, bool, time, duration, any, [T], {name: T}, {\"*\": T}; T? for a value that may be null or missing.",
		"anyOf": []schema{
			{"type": "string", "pattern": `^[\s\[]*(int|float|string|bool|time|duration|any|\{.*\})[\s\]?]*$`, "patternErrorMessage": "write int, float, string, bool, time, duration, any, [T], {name: T}, or T?"},
			{"type": "array", "minItems": 1, "maxItems": 1, "items": schema{"$ref": "#/definitions/type"}},
			{"type": "object", "additionalProperties": schema{"$ref": "#/definitions/type"}},
		},
	}
)

// integerSchema is the schema of a whole number.
func integerSchema(least, most int) schema {
	return schema{"type": "integer", "minimum": least, "maximum": most}
}

// paramsSchema is the schema of a connector's params: those of Redis are known, others are for the user's own code.
func paramsSchema() schema {
	known := schema{}
	for _, name := range RedisParams() {
		known[name] = schema{"type": []string{"string", "number", "boolean", "null"}}
	}
	return schema{"type": "object", "properties": known, "additionalProperties": schema{"type": []string{"string", "number", "boolean", "null"}}}
}

// saveSchema is the schema of option.save, which has one operation.
func saveSchema() schema {
	s := saveKeys.schema()
	var one []schema
	for _, op := range saveOps {
		one = append(one, schema{"required": []string{op}})
	}
	s["oneOf"] = one
	return s
}

// schema returns the schema of a mapping with these keys and no others. A key that need not be there may also be null, which counts as not
// there.
func (ks documentKeys) schema() schema {
	properties := schema{}
	must := []string{}
	for _, k := range ks {
		value := maps.Clone(k.value)
		value["description"] = k.about
		if k.must {
			must = append(must, k.name)
		} else {
			value = orNull(value)
		}
		properties[k.name] = value
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(must) > 0 {
		s["required"] = must
	}
	return s
}

// orNull returns a schema that also takes null.
func orNull(s schema) schema {
	_, choice := s["oneOf"] // of which null would fit every part
	switch t := s["type"].(type) {
	case string:
		if !choice {
			s["type"] = []string{t, "null"}
			return s
		}
	case []string:
		s["type"] = append(slices.Clone(t), "null")
		return s
	}
	either := schema{"anyOf": []schema{s, {"type": "null"}}, "description": s["description"]}
	delete(s, "description")
	return either
}

// Schema returns a JSON Schema (draft 7) of documents, as editors use it, indented. It is made of the tables that the parser reads keys by. References
// to other documents and the types of expressions are for lint, since a schema can't check them.
func Schema() []byte {
	function := functionKeys.schema()
	option := functionKeys.option()
	var byMode []schema
	for _, mode := range modes {
		others := schema{}
		for _, k := range functionOptions {
			if k.mode != "" && string(k.mode) != mode {
				others[k.name] = schema{"type": "null", "errorMessage": "is for functions of fmode " + string(k.mode)}
			}
		}
		byMode = append(byMode, schema{
			"if":   schema{"properties": schema{"fmode": schema{"const": mode}}, "required": []string{"fmode"}},
			"then": schema{"properties": schema{"option": schema{"properties": others}}},
		})
	}
	function["allOf"] = byMode
	for _, key := range []string{"save", "load"} { // each needs a connector
		option["allOf"] = append(option["allOf"].([]schema), schema{
			"if":   schema{"properties": schema{key: schema{"type": "object"}}, "required": []string{key}},
			"then": schema{"required": []string{"cname"}},
		})
	}
	function["properties"].(schema)["option"] = option
	connector := connectorKeys.schema()
	connector["if"] = schema{"properties": schema{"type": schema{"const": "memory"}}}
	connector["else"] = schema{"required": []string{"addrs"}, "properties": schema{"addrs": schema{"type": textSchema["type"], "minLength": 1}}}

	definitions := schema{"type": typeSchema, "flow": flowKeys.schema(), "func": function, "conn": connector, "global": globalKeys.schema()}
	var byKind, kindsAbout []schema
	for _, kind := range kinds {
		about := keysOfKind[Kind(kind)][0].about
		kindsAbout = append(kindsAbout, schema{"const": kind, "description": title(about)})
		byKind = append(byKind, schema{
			"if":   schema{"properties": schema{"kistype": schema{"const": kind}}, "required": []string{"kistype"}},
			"then": schema{"$ref": "#/definitions/" + kind},
		})
	}
	return WriteSchema(map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": "KisGrid document",
		"description": "A flow, a function, a connector or settings of a process: kistype says which.",
		"type":        "object", "required": []string{"kistype"},
		"properties":  schema{"kistype": schema{"description": "The kind of the document: " + strings.Join(kinds, ", ") + ".", "anyOf": kindsAbout}},
		"allOf":       byKind,
		"definitions": definitions,
	})
}

// option returns the schema of the key option, which the caller may add rules to.
func (ks documentKeys) option() schema {
	option := ks.schema()["properties"].(schema)["option"].(schema)
	option["allOf"] = []schema{}
	return option
}

// WriteSchema returns a schema as indented JSON, with its keys sorted.
func WriteSchema(s map[string]any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic("definition: encoding a schema failed: " + err.Error()) // it has strings, numbers, lists and maps alone
	}
	return b.Bytes()
}
