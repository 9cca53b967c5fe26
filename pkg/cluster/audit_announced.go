package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// An entry of the audit log is announced when the change of documents leaves no room for it in its transaction:
//
//	announced/<name> is written ──> the change is written ──> announced/<name> moves to audit/<name>
//	                                  │ it is refused: announced/<name> is deleted
//	                                  v the coordinator ends, or can't tell whether it is written
//	                                announced/<name> stays: readers look for the documents that it announces, and the leader moves it later
//
// So whoever sees the change also sees who made it, at any moment.

// announcedFor is how long an entry may stay announced. Then the leader moves it to the log: the coordinator that wrote it has ended.
const announcedFor = time.Hour

// announcedEntry is an entry that is announced, with its name and the etcd revision at which it was announced.
type announcedEntry struct {
	AuditEntry
	name string
	at   int64
}

// announce writes an entry about a change that is to be made.
func (s *Store) announce(ctx context.Context, name string, e AuditEntry, put []definition.Document, del []Key) error {
	e.Announced = map[string]string{}
	for _, d := range put {
		e.Announced[Key{d.Kind, d.Name}.String()] = definition.Digest([]definition.Document{d}).String()
	}
	for _, key := range del {
		e.Announced[key.String()] = ""
	}
	_, value, err := s.encodeAudit(e)
	if err != nil {
		return err
	}
	t := s.transaction("announcing a change of documents")
	t.put(s.keys.announced().from+name, value)
	_, err = t.commit(ctx)
	return err
}

// withdraw removes an announced entry after its change has failed with an error, unless the change may have been made all the same.
func (s *Store) withdraw(ctx context.Context, name string, why error) {
	if code := batch.CodeOf(why); code != batch.CodeConflict && code != batch.CodeBadDocument {
		return
	}
	t := s.transaction("withdrawing a change of documents")
	t.delete(s.keys.announced().from + name)
	// An entry that stays does no harm: the leader moves it to the log, where it says that nobody knows whether the change was made.
	_, _ = t.commit(ctx)
}

// enterAnnounced moves an announced entry to the log, as e.
func (s *Store) enterAnnounced(ctx context.Context, name string, e AuditEntry) error {
	t, err := s.entering(name, e)
	if err != nil {
		return err
	}
	_, err = t.commit(ctx)
	return err
}

// entering makes the transaction that moves an announced entry to the log, as e.
func (s *Store) entering(name string, e AuditEntry) (*transaction, error) {
	_, value, err := s.encodeAudit(e)
	if err != nil {
		return nil, err
	}
	t := s.transaction("writing the audit log")
	t.delete(s.keys.announced().from + name)
	t.put(s.keys.audit().from+name, value)
	return t, nil
}

// readAnnounced returns the entries that are announced. One whose documents stand in etcd, written after it with the texts that it announces,
// has the revision of that write.
func (s *Store) readAnnounced(ctx context.Context) ([]announcedEntry, error) {
	kvs, _, err := s.list(ctx, s.keys.announced())
	if err != nil || len(kvs) == 0 {
		return nil, err
	}
	_, documents, err := s.Documents(ctx)
	if err != nil {
		return nil, err
	}
	return decodeAll(s, kvs, func(kv *mvccpb.KeyValue) (announcedEntry, error) {
		a := announcedEntry{name: strings.TrimPrefix(string(kv.Key), s.keys.announced().from), at: kv.ModRevision}
		if err := json.Unmarshal(kv.Value, &a.AuditEntry); err != nil {
			return a, err
		}
		for _, d := range documents {
			digest := a.Announced[Key{d.Kind, d.Name}.String()]
			if digest != "" && d.Revision > a.at && digest == definition.Digest([]definition.Document{d}).String() {
				a.Revision = d.Revision
				break
			}
		}
		return a, nil
	}), nil
}

// enterForgotten moves entries to the log that were announced more than announcedFor ago, by this process's clock.
func (l *Leadership) enterForgotten(ctx context.Context) error {
	announced, err := l.store.readAnnounced(ctx)
	if err != nil {
		return err
	}
	for _, a := range announced {
		if time.Since(a.At) < announcedFor {
			continue
		}
		e := a.AuditEntry
		e.Announced = nil
		if e.Revision == 0 {
			e.Revision, e.Detail = a.at, "it is not known whether this was done"
		}
		t, err := l.store.entering(a.name, e)
		if err != nil {
			return err
		}
		if err := l.commit(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
