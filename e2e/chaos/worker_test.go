//go:build linux

package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// flowName is the flow that all rows go through.
const flowName = "Chaos"

// row is a row that clients submit. Sequence is the number of the row among those of its client and key, from 1.
type row struct {
	Client   uint32 `json:"client"`
	Key      uint32 `json:"key"`
	Sequence uint64 `json:"sequence"`
}

// deadly is the client whose rows kill the worker that runs them.
const deadly = 1 << 31

// execution is the record of one execution of a row. The worker writes it at once, so that it is there even when the worker is killed
// a moment later.
type execution struct {
	row
	attempt  uint32
	revision int64
	at       int64 // when the execution began, in nanoseconds since 1970
	worker   int   // index of the worker; it is not in the record
}

const executionBytes = 4 + 4 + 8 + 4 + 8 + 8

// append appends the execution in the form of a record.
func (e *execution) append(to []byte) []byte {
	to = binary.LittleEndian.AppendUint32(to, e.Client)
	to = binary.LittleEndian.AppendUint32(to, e.Key)
	to = binary.LittleEndian.AppendUint64(to, e.Sequence)
	to = binary.LittleEndian.AppendUint32(to, e.attempt)
	to = binary.LittleEndian.AppendUint64(to, uint64(e.revision))
	return binary.LittleEndian.AppendUint64(to, uint64(e.at))
}

// readExecution reads one record.
func readExecution(b []byte) execution {
	return execution{
		row:     row{Client: binary.LittleEndian.Uint32(b), Key: binary.LittleEndian.Uint32(b[4:]), Sequence: binary.LittleEndian.Uint64(b[8:])},
		attempt: binary.LittleEndian.Uint32(b[16:]), revision: int64(binary.LittleEndian.Uint64(b[20:])), at: int64(binary.LittleEndian.Uint64(b[28:])),
	}
}

// readExecutions reads the records of one worker. The last record of a killed worker may be incomplete.
func readExecutions(path string, worker int) ([]execution, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []execution
	for ; len(data) >= executionBytes; data = data[executionBytes:] {
		e := readExecution(data)
		e.worker = worker
		all = append(all, e)
	}
	return all, nil
}

// recordVariable is an environment variable with the file to which a worker appends its records.
const recordVariable = "KISGRID_CHAOS_RECORD"

// register registers the functions of the flow. Record writes a record of each row. Keep saves the row's sequence in Redis.
func register(r *kis.Registry) {
	file, err := os.OpenFile(os.Getenv(recordVariable), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "open the record of executions:", err)
		os.Exit(1)
	}
	r.Func("Record", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		if in.Client == deadly {
			os.Exit(3)
		}
		call := kis.From(ctx)
		e := execution{row: in, attempt: uint32(call.Attempt), revision: call.Revision, at: time.Now().UnixNano()}
		if _, err := file.Write(e.append(make([]byte, 0, executionBytes))); err != nil {
			return in, err
		}
		if work, err := time.ParseDuration(call.Param("work")); err == nil && in.Sequence%4 == 0 {
			time.Sleep(work) // so that rows are under way when an event happens
		}
		return in, nil
	}))
	r.Func("Keep", kis.Save(func(_ context.Context, to kis.Writer, in row) error {
		to.Set(fmt.Sprintf("%d:%d", in.Client, in.Key), "sequence", in.Sequence)
		return nil
	}))
}

// documents are the documents of the flow in one version.
func documents(version int) []definition.Document {
	document := func(kind definition.Kind, name, yaml string) definition.Document {
		return definition.Document{Kind: kind, Name: name, YAML: []byte("kistype: " + string(kind) + "\n" + yaml)}
	}
	return []definition.Document{
		document(definition.KindFlow, flowName, "flow_name: "+flowName+"\nstatus: 1\nshard_key: key\nflows: [{fname: Record}, {fname: Keep}]\n"),
		document(definition.KindFunc, "Record", fmt.Sprintf("fname: Record\nfmode: Calculate\noption:\n  default_params: {version: \"%d\", work: %s}\n", version, *workFlag)),
		document(definition.KindFunc, "Keep", "fname: Keep\nfmode: Save\noption:\n  cname: Store\n"),
		document(definition.KindConn, "Store", "cname: Store\ntype: redis\naddrs: \"${REDIS_ADDR}\"\nkey: \"chaos:\"\nsave: [Keep]\n"),
	}
}

// recordPath is the file with the records of a worker.
func recordPath(dir, worker string) string { return filepath.Join(dir, worker+".executions") }
