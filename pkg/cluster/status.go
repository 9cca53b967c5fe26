package cluster

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// DocumentStatus is what the leader says of a function's or connector's document.
type DocumentStatus struct {
	// Kind and Name are in the key.
	Kind definition.Kind `json:"-"`
	Name string          `json:"-"`
	// Wanted is the document's revision. Active is the revision of it that runs in every flow that needs it, the oldest where
	// they differ; 0 where it runs nowhere.
	Wanted int64 `json:"wanted"`
	Active int64 `json:"active"`
	// State is one of the State constants: active once every flow that needs it runs Wanted.
	State string `json:"state"`
	// Applied of Of flows that need it run Wanted.
	Applied int `json:"applied"`
	Of      int `json:"of"`
	// Flows are those that need it, directly or through a function.
	Flows []string `json:"flows"`
	// Reasons say why Wanted is not Active, each a line for an operator.
	Reasons []string  `json:"reasons,omitempty"`
	Updated time.Time `json:"updated"`
}

// Key is the document that the status is of.
func (s DocumentStatus) Key() Key { return Key{Kind: s.Kind, Name: s.Name} }

// DocumentStatuses reads what the leader says of all function and connector documents.
func (s *Store) DocumentStatuses(ctx context.Context) (map[Key]DocumentStatus, error) {
	kvs, _, err := s.list(ctx, s.keys.statuses())
	if err != nil {
		return nil, err
	}
	return State{records: readable(s, kvs, s.readFlowRecord)}.Documents(), nil
}

// decodeDocumentStatus reads a status; the key says which document's it is.
func decodeDocumentStatus(key Key, value []byte) (*DocumentStatus, error) {
	status := new(DocumentStatus)
	if err := json.Unmarshal(value, status); err != nil {
		return nil, err
	}
	status.Kind, status.Name = key.Kind, key.Name
	return status, nil
}

// PutDocumentStatuses writes the statuses of documents, and removes those of documents that are gone.
func (l *Leadership) PutDocumentStatuses(ctx context.Context, put []DocumentStatus, gone []Key) error {
	const doing = "writing the status of functions and connectors"
	t := l.store.transaction(doing)
	add := func(write func()) error {
		if len(t.then) == l.store.ownMost() || t.bytes > maxBytes/2 {
			if err := l.commit(ctx, t); err != nil {
				return err
			}
			t = l.store.transaction(doing)
		}
		write()
		return nil
	}
	for _, status := range put {
		value, err := encode(status)
		if err != nil {
			return err
		}
		if err := add(func() { t.put(l.store.keys.documentStatus(status.Key()), value) }); err != nil {
			return err
		}
	}
	for _, key := range gone {
		if err := add(func() { t.delete(l.store.keys.documentStatus(key)) }); err != nil {
			return err
		}
	}
	if len(t.then) == 0 {
		return nil
	}
	return l.commit(ctx, t)
}
