package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Log is what etcd knows of a log, which one flow reads from outside of the cluster: who reads it, counted by terms, and the revision on
// which its rows run. The key stays until somebody removes it: only then a term may come twice.
type Log struct {
	Flow string      `json:"-"` // in the key
	ID   batch.LogID `json:"-"` // in the key
	Term uint64      `json:"term"`
	// Revision is the one revision on which rows of the log run. The history keeps it. Digest is that of its documents.
	Revision int64        `json:"revision"`
	Digest   batch.Digest `json:"digest,omitzero"`
	// Floor is the highest floor with which a term began: rows below it are settled.
	Floor uint64    `json:"floor,omitempty"`
	Began time.Time `json:"began"` // when the term began, by the clock of the coordinator that wrote it
}

// At returns the log's revision with its digest.
func (l *Log) At() batch.Revision { return batch.Revision{Number: l.Revision, Digest: l.Digest} }

// readLog decodes a key below log/.
func (s *Store) readLog(kv *mvccpb.KeyValue) (Log, error) {
	flow, text, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), s.keys.logs("").from), "/")
	id, err := batch.ParseLogID(text)
	if err != nil {
		return Log{}, err
	}
	l := Log{Flow: flow, ID: id}
	return l, json.Unmarshal(kv.Value, &l)
}

// TermOptions say more of how a term begins.
type TermOptions struct {
	// Drained says that none of the log's rows may run again, so that the log takes the revision that is active now.
	Drained bool
	// Resume says that the reader keeps no floor itself: it begins at that of the log, if that is higher.
	Resume bool
}

// termTries is how often BeginTerm reads and writes again because others have begun terms of the same log at the same time.
const termTries = 8

// BeginTerm begins the next term of a log, and returns what etcd knows of the log from then on. floor is where the reader begins. A log that
// etcd does not know, or that is drained, takes the revision that is active now. Of two readers
// that begin at the same time, both get a term, and the later one's is the higher.
//
// The error has CodeLogRewound if floor lies below that of an earlier term, CodeUnknownFlow or CodeFlowDisabled if the flow has no active
// revision and the log none of its own, CodeRevisionGone if the history has lost the log's revision, and CodeUnavailable if etcd is away.
func (s *Store) BeginTerm(ctx context.Context, flow string, id batch.LogID, floor uint64, o TermOptions) (*Log, error) {
	if err := checkName(flow); err != nil {
		return nil, batch.Errorf(batch.CodeUnknownFlow, "begin a term of log %s: %w", id, err)
	}
	for range termTries {
		l, ok, err := s.tryTerm(ctx, flow, id, floor, o)
		if err != nil || ok {
			return l, err
		}
		pointTermAgain.Hit()
	}
	return nil, batch.Errorf(batch.CodeUnavailable, "begin a term of log %s: others begin terms of it, or change flow %s, again and again: try again", id, flow)
}

// tryTerm is one attempt of BeginTerm. ok is false if the log or the history changed between reading and writing.
func (s *Store) tryTerm(ctx context.Context, flow string, id batch.LogID, floor uint64, o TermOptions) (l *Log, ok bool, err error) {
	key := s.keys.log(flow, id)
	kvs, _, err := s.list(ctx, keyRange{from: key})
	if err != nil {
		return nil, false, err
	}
	l, written := &Log{Flow: flow, ID: id}, int64(0)
	if len(kvs) > 0 {
		old, err := s.readLog(kvs[0])
		if err != nil {
			return nil, false, batch.Errorf(batch.CodeInternal, "the key %s can't be read: %w: look at it with etcdctl", key, err)
		}
		l, written = &old, kvs[0].ModRevision
	}
	if o.Resume {
		floor = max(floor, l.Floor)
	}
	if floor < l.Floor {
		return nil, false, batch.Errorf(batch.CodeLogRewound, "log %s of flow %s begins at %d, and its floor is %d: rows below it are settled; "+
			"find out why the position went back, and read the log under another id to run them again on purpose", id, flow, floor, l.Floor)
	}
	if o.Drained || l.Revision == 0 {
		status, err := s.Status(ctx, flow)
		switch {
		case err != nil:
			return nil, false, err
		case status == nil && l.Revision == 0:
			return nil, false, batch.Errorf(batch.CodeUnknownFlow, "begin a term of log %s: there is no flow %q", id, flow)
		case status != nil && status.Active != 0:
			l.Revision, l.Digest = status.Active, status.ActiveDigest
		case l.Revision == 0:
			return nil, false, batch.Errorf(batch.CodeFlowDisabled, "begin a term of log %s: no revision of flow %s is active", id, flow)
		}
	}
	l.Term, l.Floor, l.Began = l.Term+1, floor, time.Now().UTC().Truncate(time.Millisecond)
	value, err := encode(l)
	if err != nil {
		return nil, false, err
	}
	revision := s.keys.revision(flow, l.Revision)
	t := s.transaction("beginning a term of log " + id.String())
	t.requireWritten(key, written)
	t.condition(clientv3.Compare(clientv3.CreateRevision(revision), ">", 0), revision)
	t.put(key, value)
	t.readOnFailure(revision)
	answer, err := t.commit(ctx)
	if err != nil {
		return nil, false, err
	}
	if !answer.Succeeded && len(answer.Responses[0].GetResponseRange().GetKvs()) == 0 {
		return nil, false, batch.Errorf(batch.CodeRevisionGone, "begin a term of log %s: revision %s of flow %s is not kept: wait until all its rows are settled, and begin with drained", id, l.At(), flow)
	}
	return l, answer.Succeeded, nil
}

// Logs reads the logs of a flow, sorted by id. Entries that can't be read are logged and left out.
func (s *Store) Logs(ctx context.Context, flow string) ([]Log, error) {
	kvs, _, err := s.list(ctx, s.keys.logs(flow))
	if err != nil {
		return nil, err
	}
	return decodeAll(s, kvs, s.readLog), nil
}
