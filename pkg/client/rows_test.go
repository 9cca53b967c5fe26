package client_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

func result(encoding string, rows ...string) *client.Result {
	c := batch.Columns{Encoding: encoding}
	for _, r := range rows {
		c.Append([]byte(r))
	}
	return &client.Result{Output: batch.Output{Rows: c, Origins: make([]uint32, len(rows))}}
}

func TestOutput(t *testing.T) {
	rows := result("json", `{"stu_id":1,"avg_score":2.5}`, `{"stu_id":2}`)
	if got, err := client.Output[avg](rows); err != nil || cmp.Diff([]avg{{1, 2.5}, {2, 0}}, got) != "" {
		t.Errorf("structs: %v, %v", got, err)
	}
	if got, err := client.Output[*avg](rows); err != nil || cmp.Diff([]*avg{{1, 2.5}, {2, 0}}, got) != "" {
		t.Errorf("pointers: %v, %v", got, err)
	}
	if got, err := client.Output[string](rows); err != nil || got[1] != `{"stu_id":2}` {
		t.Errorf("strings: %v, %v", got, err)
	}
	if got, err := client.Output[json.RawMessage](rows); err != nil || string(got[1]) != `{"stu_id":2}` {
		t.Errorf("raw messages: %s, %v", got, err)
	}
	if got, err := client.Output[[]byte](result("msgpack", "\x01", "\x02")); err != nil || string(got[1]) != "\x02" {
		t.Errorf("bytes of another encoding: %v, %v", got, err)
	}
	if got, err := client.Output[avg](&client.Result{}); err != nil || len(got) != 0 {
		t.Errorf("no output: %v, %v", got, err)
	}
	for _, test := range []struct {
		name string
		of   *client.Result
		text string
	}{
		{"another type", result("", `{"stu_id":1}`, `{"stu_id":"x"}`), "decode output row 1"},
		{"another encoding", result("msgpack", "\x01"), `"msgpack"`},
	} {
		_, err := client.Output[avg](test.of)
		if batch.CodeOf(err) != batch.CodeRowUndecodable || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: error is %v, want %s with %q", test.name, err, batch.CodeRowUndecodable, test.text)
		}
	}
}
