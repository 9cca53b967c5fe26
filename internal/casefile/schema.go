package casefile

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Schema returns a JSON Schema (draft 7) of test files, as editors use it, indented.
func Schema() []byte {
	text := []string{"string", "number", "boolean"}
	described := func(about string, of map[string]any) map[string]any {
		of["description"] = about
		return of
	}
	held := map[string]any{"type": "object", "additionalProperties": map[string]any{
		"type": "object", "description": "The data of a connector.",
		"additionalProperties": map[string]any{
			"description": "A key: a hash, as field: value, or a list.",
			"anyOf": []any{
				map[string]any{"type": "object", "minProperties": 1},
				map[string]any{"type": "array", "minItems": 1},
			},
		},
	}}
	outcome := map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"row", "outcome"},
		"properties": map[string]any{
			"row":             described("The row, counted from 1.", map[string]any{"type": "integer", "minimum": 1}),
			"outcome":         described("How the row ends.", map[string]any{"enum": outcomeNames()}),
			"function":        described("The function in which it ends.", map[string]any{"type": text}),
			"code":            described("The code of its outcome.", map[string]any{"enum": batch.CodeNames()}),
			"reason":          described("The whole reason.", map[string]any{"type": text}),
			"reason_contains": described("A part of the reason.", map[string]any{"type": text, "minLength": 1}),
		},
	}
	one := map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"name", "flow"},
		"oneOf": []any{map[string]any{"required": []string{"rows"}}, map[string]any{"required": []string{"rows_file"}}},
		"properties": map[string]any{
			"name":      described("What the case shows.", map[string]any{"type": text, "minLength": 1}),
			"flow":      described("The flow that the rows run through.", map[string]any{"type": text}),
			"before":    described("The data of connectors before the rows run.", map[string]any{"$ref": "#/definitions/held"}),
			"rows":      described("The rows, as one batch.", map[string]any{"type": "array", "minItems": 1}),
			"rows_file": described("Instead of rows: the name of a file beside the test file.", map[string]any{"type": "string", "minLength": 1}),
			"output":    described("The rows that the flow gives, in order; [] means none.", map[string]any{"type": "array"}),
			"outcomes":  described("The rows that do not end as done.", map[string]any{"type": "array", "items": outcome}),
			"after":     described("All data of the connectors that are named here.", map[string]any{"$ref": "#/definitions/held", "minProperties": 1}),
		},
	}
	return definition.WriteSchema(map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": "KisGrid tests",
		"description": "Tests of flows, which kisgrid test runs.",
		"type":        "object", "additionalProperties": false, "required": []string{"tests"},
		"properties":  map[string]any{"tests": described("The cases.", map[string]any{"type": "array", "minItems": 1, "items": one})},
		"definitions": map[string]any{"held": held},
	})
}
