package cluster

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// encodeStatus makes the JSON of a flow's status.
func encodeStatus(status FlowStatus) (string, error) {
	if err := checkName(status.Flow); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "writing the status of flow %q: %w", status.Flow, err)
	}
	return encode(status)
}

// decodeStatus parses a flow's status. The flow's name comes from the key.
func decodeStatus(flow string, value []byte) (*FlowStatus, error) {
	status := new(FlowStatus)
	if err := json.Unmarshal(value, status); err != nil {
		return nil, err
	}
	status.Flow = flow
	return status, nil
}

// entryRecord is the JSON of a HistoryEntry. The flow and the revision are in the key.
type entryRecord struct {
	Accepted  time.Time        `json:"accepted"`
	ShardKey  string           `json:"shard_key,omitempty"`
	Enabled   bool             `json:"enabled"`
	Author    string           `json:"author,omitempty"`
	Documents []documentRecord `json:"documents"`
}

// documentRecord is a document within an entryRecord. Its text is in YAML, for people to read. It is in Base64 instead if it is no valid
// UTF-8, or if it has so many quotes and line ends that base64 is shorter. So an entry is at most 4/3 of the size of its documents.
type documentRecord struct {
	Kind     definition.Kind `json:"kind"`
	Name     string          `json:"name"`
	Revision int64           `json:"revision"`
	YAML     string          `json:"yaml,omitempty"`
	Base64   []byte          `json:"base64,omitempty"`
}

// encodeEntry makes the JSON of a HistoryEntry.
func encodeEntry(e HistoryEntry) (string, error) {
	if err := checkName(e.Flow); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "writing the history of flow %q: %w", e.Flow, err)
	}
	record := entryRecord{Accepted: e.Accepted, ShardKey: e.ShardKey, Enabled: e.Enabled, Author: e.Author}
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

// decodeEntry parses the JSON of a HistoryEntry. The flow's name and the revision come from the key. An entry without documents is an
// error.
func decodeEntry(flow string, revision int64, value []byte) (*HistoryEntry, error) {
	var record entryRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return nil, err
	}
	if len(record.Documents) == 0 {
		return nil, errors.New("it has no documents")
	}
	entry := &HistoryEntry{Flow: flow, Revision: revision, Accepted: record.Accepted, ShardKey: record.ShardKey, Enabled: record.Enabled, Author: record.Author}
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

// encode makes JSON without escapes for <, > and &, which only HTML needs.
func encode(v any) (string, error) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", batch.Errorf(batch.CodeInternal, "encode %T for etcd: %w", v, err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// decodeDocumentStatus parses the status of a function or connector, which the key names.
func decodeDocumentStatus(key Key, value []byte) (*DocumentStatus, error) {
	status := new(DocumentStatus)
	if err := json.Unmarshal(value, status); err != nil {
		return nil, err
	}
	status.Kind, status.Name = key.Kind, key.Name
	return status, nil
}
