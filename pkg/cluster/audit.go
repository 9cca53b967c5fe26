package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// AuditKeep and AuditAge are the arguments keep and age with which the leader calls TrimAudit: it keeps the last 10,000 entries of the audit
// log, of the last 90 days.
const (
	AuditKeep = 10_000
	AuditAge  = 90 * 24 * time.Hour
)

// AuditBatch is how many entries are best handed to one call of PutAudit, when many wait.
const AuditBatch = 64

// UnknownAuthor is the author of a change of documents that has no entry in the audit log: somebody wrote into etcd directly, or through a
// coordinator of a build that had no audit log.
const UnknownAuthor = "etcd, unknown"

// AuditEntry says who did something, and when, from where and what: a change, or a read of rows. It has no contents of rows.
type AuditEntry struct {
	At          time.Time `json:"at"`
	Author      string    `json:"author"`
	Address     string    `json:"address,omitempty"`
	Action      string    `json:"action"`
	Flows       []string  `json:"flows,omitempty"`
	Documents   []string  `json:"documents,omitempty"` // changed documents, as kind/name
	Deleted     []string  `json:"deleted,omitempty"`   // those of Documents that were deleted
	Detail      string    `json:"detail,omitempty"`
	Coordinator string    `json:"coordinator,omitempty"`
	// Revision is the etcd revision of a change of documents; 0 for every other entry. In etcd it is there only if the entry was not
	// written in the transaction of the change.
	Revision int64 `json:"revision,omitempty"`
	// Announced has the digest of each document that is to be written, by kind/name, and an empty one for each that is to be deleted. It is
	// nil unless the entry was written before its change, and nobody has noted since then whether the change was made.
	Announced map[string]string `json:"announced,omitempty"`
}

// Deletes reports whether the entry is about a change that deletes the document with this key. It is also true for an entry that leaves names
// of deleted documents out.
func (e *AuditEntry) Deletes(key Key) bool {
	if e.Announced != nil {
		digest, is := e.Announced[key.String()]
		return is && digest == ""
	}
	return slices.Contains(e.Deleted, key.String()) || len(e.Deleted) > maxNamed
}

// maxNamed is the most documents, and the most flows, that an entry names.
const maxNamed = 50

// auditNumber tells apart the entries that this process writes within one nanosecond of its clock.
var auditNumber atomic.Uint64

// encodeAudit returns the name and the value of an entry. Its key is the name below audit() or announced(). Names are in the order of time.
func (s *Store) encodeAudit(e AuditEntry) (name, value string, err error) {
	for _, list := range []*[]string{&e.Flows, &e.Documents, &e.Deleted} {
		if n := len(*list); n > maxNamed {
			*list = append(slices.Clone((*list)[:maxNamed]), fmt.Sprintf("and %d more", n-maxNamed))
		}
	}
	value, err = encode(e)
	return fmt.Sprintf("%020d-%s-%d", e.At.UnixNano(), e.Coordinator, auditNumber.Add(1)), value, err
}

// readAudit parses an entry. Changed documents that were written in the same transaction have the entry's own revision.
func readAudit(kv *mvccpb.KeyValue) (AuditEntry, error) {
	var e AuditEntry
	if err := json.Unmarshal(kv.Value, &e); err != nil {
		return e, err
	}
	if e.Revision == 0 && len(e.Documents) > 0 && e.Announced == nil {
		e.Revision = kv.ModRevision
	}
	return e, nil
}

// ChangeDocuments does what PutDocuments does, and writes an entry of the audit log about it, in the same transaction if that has room for one
// more operation. Otherwise the entry is announced before the change, and gets its place in the log after it, so that no change is ever
// without an author. If only the last step fails, the entry stays announced, and the error of the log is in failed.
func (s *Store) ChangeDocuments(ctx context.Context, expect map[Key]int64, put []definition.Document, del []Key, e AuditEntry) (revision int64, failed, err error) {
	for _, d := range put {
		e.Documents = append(e.Documents, Key{d.Kind, d.Name}.String())
	}
	for _, key := range del {
		e.Documents = append(e.Documents, key.String())
		e.Deleted = append(e.Deleted, key.String())
	}
	name, value, err := s.encodeAudit(e)
	if err != nil {
		return 0, nil, err
	}
	t, expected, err := s.documentsTransaction(expect, put, del)
	if err != nil {
		return 0, nil, err
	}
	if err := t.check(); err != nil {
		return 0, nil, err
	}
	within := t.hasRoom(s.keys.audit().from+name, value)
	if within {
		t.put(s.keys.audit().from+name, value)
	} else if err := s.announce(ctx, name, e, put, del); err != nil {
		return 0, nil, err
	}
	revision, err = s.commitDocuments(ctx, t, expected, expect)
	switch {
	case within:
		return revision, nil, err
	case err != nil:
		s.withdraw(ctx, name, err)
		return 0, nil, err
	}
	e.Revision = revision
	return revision, s.enterAnnounced(ctx, name, e), nil
}

// PutAudit writes entries of the audit log, in as few transactions as have room for them. After an error, some of the entries may be in the log.
func (s *Store) PutAudit(ctx context.Context, entries ...AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	const doing = "writing the audit log"
	t := s.transaction(doing)
	for _, e := range entries {
		name, value, err := s.encodeAudit(e)
		if err != nil {
			return err
		}
		key := s.keys.audit().from + name
		if len(t.then) == s.ownOps() || len(t.then) > 0 && !t.hasRoom(key, value) {
			if _, err := t.commit(ctx); err != nil {
				return err
			}
			t = s.transaction(doing)
		}
		t.put(key, value)
	}
	_, err := t.commit(ctx)
	return err
}

// Audit reads the entries of the audit log that were written at an etcd revision or later, oldest first. Entries that are announced are among
// them in any case.
func (s *Store) Audit(ctx context.Context, since int64) ([]AuditEntry, error) {
	announced, err := s.readAnnounced(ctx) // read first, since they move to the log
	if err != nil {
		return nil, err
	}
	kvs, _, err := s.list(ctx, s.keys.audit(), clientv3.WithMinModRev(since))
	if err != nil {
		return nil, err
	}
	entries := decodeAll(s, kvs, readAudit)
	if len(announced) == 0 {
		return entries, nil
	}
	entered := map[string]bool{}
	for _, kv := range kvs {
		entered[strings.TrimPrefix(string(kv.Key), s.keys.audit().from)] = true
	}
	for _, a := range announced {
		if !entered[a.name] {
			entries = append(entries, a.AuditEntry)
		}
	}
	slices.SortStableFunc(entries, func(a, b AuditEntry) int { return a.At.Compare(b.At) })
	return entries, nil
}

// Authors returns who made the changes of documents at these etcd revisions: UnknownAuthor for a change that no coordinator has made, and
// nothing for one that is older than the log (BeginAudit).
func (s *Store) Authors(ctx context.Context, revisions ...int64) (map[int64]string, error) {
	authors, unnoted, err := s.entriesOf(ctx, revisions)
	for _, r := range unnoted {
		authors[r] = UnknownAuthor
	}
	return authors, err
}

// Unnoted returns those of the etcd revisions of changes of documents about which the audit log has no entry, although it had begun.
func (s *Store) Unnoted(ctx context.Context, revisions ...int64) ([]int64, error) {
	_, unnoted, err := s.entriesOf(ctx, revisions)
	return unnoted, err
}

// entriesOf returns the authors of the entries about changes at these etcd revisions, and those of the revisions that have no entry and are not
// older than the log.
func (s *Store) entriesOf(ctx context.Context, revisions []int64) (authors map[int64]string, unnoted []int64, err error) {
	if len(revisions) == 0 {
		return nil, nil, nil
	}
	began, err := s.page(ctx, s.keys.auditBegan(), "")
	if err != nil {
		return nil, nil, err
	}
	entries, err := s.Audit(ctx, slices.Min(revisions))
	if err != nil {
		return nil, nil, err
	}
	authors = map[int64]string{}
	for _, e := range entries {
		if e.Revision != 0 {
			authors[e.Revision] = e.Author
		}
	}
	for _, r := range revisions {
		if authors[r] == "" && len(began.Kvs) > 0 && r >= began.Kvs[0].CreateRevision {
			unnoted = append(unnoted, r)
		}
	}
	return authors, unnoted, nil
}

// BeginAudit notes in etcd, once for the cluster, that each change of documents through a coordinator has an entry in the audit log from now
// on.
func (l *Leadership) BeginAudit(ctx context.Context) error {
	began, err := l.store.page(ctx, l.store.keys.auditBegan(), "")
	if err != nil || len(began.Kvs) > 0 {
		return err
	}
	t := l.store.transaction("beginning the audit log")
	t.put(l.store.keys.auditBegan(), time.Now().UTC().Format(time.RFC3339))
	return l.commit(ctx, t)
}

// TrimAudit removes entries of the audit log that are not among the last keep, or are older than age by this process's clock. It keeps
// entries about changes at the etcd revisions in current, so that documents which are still in etcd keep their authors. Entries that were
// announced long ago get their place in the log.
func (l *Leadership) TrimAudit(ctx context.Context, keep int, age time.Duration, current map[int64]bool) error {
	if err := l.enterForgotten(ctx); err != nil {
		return err
	}
	kvs, _, err := l.store.list(ctx, l.store.keys.audit())
	if err != nil {
		return err
	}
	before := time.Now().Add(-age).UnixNano()
	var old []string
	for i, kv := range kvs {
		at, err := auditTime(strings.TrimPrefix(string(kv.Key), l.store.keys.audit().from))
		if i >= len(kvs)-keep && err == nil && at >= before {
			continue
		}
		if e, err := readAudit(kv); err != nil || !current[e.Revision] {
			old = append(old, string(kv.Key))
		}
	}
	for some := range slices.Chunk(old, l.store.ownOps()) {
		t := l.store.transaction("trimming the audit log")
		for _, key := range some {
			t.delete(key)
		}
		if err := l.commit(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// auditTime returns the time in the key of an entry, in nanoseconds since 1970.
func auditTime(name string) (int64, error) {
	digits, _, found := strings.Cut(name, "-")
	if !found {
		return 0, errors.New("the key is not that of an entry")
	}
	return strconv.ParseInt(digits, 10, 64)
}
