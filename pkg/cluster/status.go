package cluster

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// DocumentStatus is the leader's report on the document of a function or connector.
type DocumentStatus struct {
	// Kind and Name are taken from the key.
	Kind definition.Kind `json:"-"`
	Name string          `json:"-"`
	// Wanted is the revision of the document. Active is the revision of it that runs in every flow that needs it: the oldest, if flows
	// differ, and 0 if it runs in none.
	Wanted int64 `json:"wanted"`
	Active int64 `json:"active"`
	// State is one of the State constants. It is StateActive once every flow that needs the document runs Wanted.
	State string `json:"state"`
	// Applied is the number of flows that run Wanted, Of the number of flows that need the document.
	Applied int `json:"applied"`
	Of      int `json:"of"`
	// Flows are the flows that need the document, directly or through a function.
	Flows []string `json:"flows"`
	// Reasons say why Wanted is not Active, in one line each for an operator.
	Reasons []string  `json:"reasons,omitempty"`
	Updated time.Time `json:"updated"`
}

// Key returns the key of the document that the status is about.
func (s DocumentStatus) Key() Key { return Key{Kind: s.Kind, Name: s.Name} }

// DocumentStatuses reads the statuses of all function and connector documents.
func (s *Store) DocumentStatuses(ctx context.Context) (map[Key]DocumentStatus, error) {
	kvs, _, err := s.list(ctx, s.keys.statuses())
	if err != nil {
		return nil, err
	}
	return State{records: decodeAll(s, kvs, s.readFlowRecord)}.Documents(), nil
}

// PutDocumentStatuses writes the statuses of documents, and removes those of documents that are gone. It makes several transactions if one
// would be too large.
func (l *Leadership) PutDocumentStatuses(ctx context.Context, put []DocumentStatus, gone []Key) error {
	const doing = "writing the status of functions and connectors"
	t := l.store.transaction(doing)
	add := func(write func()) error {
		if len(t.then) == l.store.ownOps() || t.bytes > maxBytes/2 {
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
