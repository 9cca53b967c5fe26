package cluster

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func encodeStatus(status FlowStatus) (string, error) {
	if err := checkName(status.Flow); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "writing the status of flow %q: %w", status.Flow, err)
	}
	return encode(status)
}

// decodeStatus reads a status; the key says which flow's it is.
func decodeStatus(flow string, value []byte) (*FlowStatus, error) {
	status := new(FlowStatus)
	if err := json.Unmarshal(value, status); err != nil {
		return nil, err
	}
	status.Flow = flow
	return status, nil
}

// entryRecord is a HistoryEntry as it stands in etcd; flow and revision are in its key.
type entryRecord struct {
	Accepted  time.Time        `json:"accepted"`
	ShardKey  string           `json:"shard_key,omitempty"`
	Enabled   bool             `json:"enabled"`
	Documents []documentRecord `json:"documents"`
}

// documentRecord is a document within an entry. Its text stands there to be read by people, unless it is no UTF-8, which JSON
// can't hold, or so full of quotes and line ends that base64 is shorter: so an entry is never over 4/3 of its documents.
type documentRecord struct {
	Kind     definition.Kind `json:"kind"`
	Name     string          `json:"name"`
	Revision int64           `json:"revision"`
	YAML     string          `json:"yaml,omitempty"`
	Base64   []byte          `json:"base64,omitempty"`
}

func encodeEntry(e HistoryEntry) (string, error) {
	if err := checkName(e.Flow); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "writing the history of flow %q: %w", e.Flow, err)
	}
	record := entryRecord{Accepted: e.Accepted, ShardKey: e.ShardKey, Enabled: e.Enabled}
	for _, d := range e.Documents {
		r := documentRecord{Kind: d.Kind, Name: d.Name, Revision: d.Revision}
		text, err := encode(string(d.YAML))
		if err != nil {
			return "", err
		}
		if utf8.Valid(d.YAML) && len(text) <= len(`""`)+base64.StdEncoding.EncodedLen(len(d.YAML)) {
			r.YAML = string(d.YAML)
		} else {
			r.Base64 = d.YAML
		}
		record.Documents = append(record.Documents, r)
	}
	return encode(record)
}

// decodeEntry reads an entry; the key says which revision of which flow it is.
func decodeEntry(flow string, revision int64, value []byte) (*HistoryEntry, error) {
	var record entryRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return nil, err
	}
	if len(record.Documents) == 0 {
		return nil, errors.New("it has no documents")
	}
	entry := &HistoryEntry{Flow: flow, Revision: revision, Accepted: record.Accepted, ShardKey: record.ShardKey, Enabled: record.Enabled}
	for _, r := range record.Documents {
		d := definition.Document{Kind: r.Kind, Name: r.Name, YAML: []byte(r.YAML), Revision: r.Revision}
		if r.YAML == "" {
			d.YAML = r.Base64
		}
		entry.Documents = append(entry.Documents, d)
	}
	entry.Digest = definition.Digest(entry.Documents)
	return entry, nil
}

// encode is JSON without the escapes that HTML would need.
func encode(v any) (string, error) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "encode %T for etcd: %w", v, err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// skipped tells the logger of records that can't be read, once for each time they were written, however many read them.
type skipped struct {
	logger hclog.Logger

	mu   sync.Mutex
	told map[string]int64 // mod revisions by key; guarded by mu
}

// maxTold bounds what is remembered; beyond that, some is told again.
const maxTold = 1024

func (s *skipped) tell(kv *mvccpb.KeyValue, reason error) {
	key := string(kv.Key)
	s.mu.Lock()
	known := s.told[key] == kv.ModRevision
	if s.told == nil || len(s.told) >= maxTold {
		s.told = map[string]int64{}
	}
	s.told[key] = kv.ModRevision
	s.mu.Unlock()
	if !known {
		s.logger.Warn("skipping a record in etcd that can't be read", "key", key, "revision", kv.ModRevision, "error", reason)
	}
}

// readable decodes those records that can be read, and tells of the others.
func readable[T any](s *Store, kvs []*mvccpb.KeyValue, decode func(*mvccpb.KeyValue) (T, error)) []T {
	var values []T
	for _, kv := range kvs {
		value, err := decode(kv)
		if err != nil {
			s.skipped.tell(kv, err)
			continue
		}
		values = append(values, value)
	}
	return values
}
