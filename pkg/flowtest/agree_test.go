package flowtest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/process"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// agreeing are flows that each save or load a row's field.
func agreeing(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name+".yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("store", "kistype: conn\ncname: Store\ntype: redis\naddrs: \"${REDIS_ADDR:none:1}\"\nkey: \"agree:\"\nsave: [Set, Incr, Append, Delete]\nload: [Take]\n")
	for name, option := range map[string]string{
		"Set": "save: {key: \"{key}\", set: {v: v}}", "Incr": "save: {key: \"{key}\", incr: {v: v}}", "Append": "save: {key: \"{key}\", append: {v: v}}",
		"Delete": "save: {key: \"{key}\", delete: true}", "Take": "on_missing: \"null\", load: {key: \"{key}\", set: {found: v}}",
	} {
		mode := "Save"
		if name == "Take" {
			mode = "Load"
		}
		write("func-"+name, fmt.Sprintf("kistype: func\nfname: %s\nfmode: %s\noption: {cname: Store, %s}\n", name, mode, option))
		write("flow-"+name, fmt.Sprintf("kistype: flow\nflow_name: %s\nstatus: 1\nflows: [{fname: %s}]\n", name, name))
	}
	return dir
}

// TestRunAgreesWithCluster has rows with all kinds of numbers, values and keys run in a process, with a store in memory, and in a
// cluster with a Redis: each ends alike, and what is there then is the same.
func TestRunAgreesWithCluster(t *testing.T) {
	installed := process.Address(t)
	process.StartRedis(t, installed, nil)
	conf := agreeing(t)
	local, err := flowexec.NewLocal(conf, func(*kis.Registry) {})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	whole := flowtest.Cluster(t, 1, flowtest.Conf(conf), flowtest.RedisAt(installed)).Client()

	numbers := []string{
		"0", "-0", "1", "-1", "0.1", "0.2", "1e2", "1E+2", "1e-2", "1e400", "-1e400", "1e5000", "1e-5000", "0e5000", "1e17", "123456789.123456789123456789", "9223372036854775807",
		"-9223372036854775808", "9223372036854775808", "18446744073709551616", "1.0", "-0.0", "1e-18", "5e-18",
	}
	texts := append([]string{
		"", "inf", "-inf", "nan", "NaN", "Infinity", "0x1p3", "0x10", "+5", "007", " 1", "1 ", "1_0", "1p3", ".5", "5.", "\x00", "a\x00b", "ключ", "🙂", "{a}", "\"", "\\", "null", "true", "\ufffd",
	}, numbers...)
	value := rapid.OneOf(
		rapid.SampledFrom(numbers), rapid.SampledFrom([]string{"true", "null", "[1]", "{}"}),
		rapid.Map(rapid.OneOf(rapid.SampledFrom(texts), rapid.String()), quoted),
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
		rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
	)
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		checks++
		keys := rapid.SliceOfN(rapid.Map(rapid.OneOf(rapid.SampledFrom(texts), rapid.String()), func(s string) string {
			return quoted(strconv.Itoa(checks) + ":" + s)
		}), 1, 3).Draw(rt, "keys")
		for range rapid.IntRange(1, 12).Draw(rt, "rows") {
			flow := rapid.SampledFrom([]string{"Set", "Incr", "Incr", "Incr", "Append", "Delete", "Take"}).Draw(rt, "flow")
			row := json.RawMessage(fmt.Sprintf(`{"key":%s,"v":%s}`, rapid.SampledFrom(keys).Draw(rt, "key"), value.Draw(rt, "value")))
			here, err := local.Submit(t.Context(), flow, client.Rows(row))
			if err != nil {
				rt.Fatal(err)
			}
			there, err := whole.Submit(t.Context(), flow, client.Rows(row))
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(ending(t, here), ending(t, there)); diff != "" {
				rt.Fatalf("%s ends in flow %s (- run, + cluster):\n%s", row, flow, diff)
			}
		}
		for _, key := range keys {
			row := json.RawMessage(fmt.Sprintf(`{"key":%s}`, key))
			here, errHere := local.Submit(t.Context(), "Take", client.Rows(row))
			there, errThere := whole.Submit(t.Context(), "Take", client.Rows(row))
			if errHere != nil || errThere != nil {
				rt.Fatal(errHere, errThere)
			}
			if diff := cmp.Diff(ending(t, here), ending(t, there)); diff != "" {
				rt.Fatalf("key %s holds (- run, + cluster):\n%s", key, diff)
			}
		}
	})
}

func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be written
	}
	return string(text)
}

// ending is how a batch of one row ended: its outcome and code, and its output.
func ending(t *testing.T, r *batch.Result) (ending []string) {
	t.Helper()
	for _, o := range r.NotDone {
		ending = append(ending, fmt.Sprint(o.Outcome, o.Code))
	}
	rows, err := client.Output[json.RawMessage](r)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		ending = append(ending, string(row))
	}
	return ending
}
