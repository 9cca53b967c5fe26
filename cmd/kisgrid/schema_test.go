package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The command prints one JSON value of each schema; the packages that make them test what they say.
func TestSchema(t *testing.T) {
	for args, title := range map[string]string{"schema": "KisGrid document", "schema documents": "KisGrid document", "schema tests": "KisGrid tests"} {
		out, err := kisgrid(strings.Fields(args)...)
		var got struct {
			Schema string `json:"$schema"`
			Title  string `json:"title"`
		}
		if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Title != title || got.Schema == "" {
			t.Errorf("%s: %v, %+v", args, err, got)
		}
	}
	if _, err := kisgrid("schema", "test"); err == nil || err.Error() != `there is no schema of "test": give documents or tests; did you mean "tests"?` {
		t.Errorf("a schema that is not there: %v", err)
	}
}
