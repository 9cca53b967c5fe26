package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Documents returns all documents, sorted by key, and the revision of etcd as of which it has read them. The documents are raw: only their
// keys were parsed. Their YAML must not be changed. Keys below config/ that are not those of documents are logged and left out.
func (s *Store) Documents(ctx context.Context) (revision int64, documents []definition.Document, err error) {
	kvs, revision, err := s.list(ctx, s.keys.config())
	if err != nil {
		return 0, nil, err
	}
	return revision, decodeAll(s, kvs, s.readDocument), nil
}

// FollowDocuments calls f with the result of Documents: when it has read them, and after each change. Changes that come while f runs are
// shown together in the next call. FollowDocuments blocks, also while etcd is out of reach, until the context ends or the Store is closed,
// and returns why.
func (s *Store) FollowDocuments(ctx context.Context, f func(revision int64, documents []definition.Document)) error {
	return follow(ctx, s, s.keys.config(), s.readDocument, f)
}

// readDocument makes a definition.Document from an etcd key below config/ and its value. It returns an error if the key is not that of a
// document.
func (s *Store) readDocument(kv *mvccpb.KeyValue) (definition.Document, error) {
	key, err := s.keys.readDocument(string(kv.Key))
	if err != nil {
		return definition.Document{}, fmt.Errorf("%w: documents stand at %s{flow,func,conn}/<name>: move or delete it", err, s.keys.config().from)
	}
	return definition.Document{Kind: key.Kind, Name: key.Name, YAML: kv.Value, Revision: kv.ModRevision, Path: string(kv.Key)}, nil
}

// PutDocuments writes documents and deletes others in one transaction: all of them or none. It returns the transaction's revision. Of the
// documents to write it uses only Kind, Name and YAML. A document to delete need not exist.
//
// expect makes the transaction conditional: it maps documents to the revision at which they must stand, 0 for a document that must not
// exist. If one does not, nothing is written, and the error has CodeConflict and names it. Changes that are too large for one transaction
// of etcd (Config.MaxOperations documents, 1.5 MiB) are refused with CodeBadDocument before anything is sent. After CodeUnavailable,
// CodeDeadline and CodeCancelled the documents may have been written all the same.
func (s *Store) PutDocuments(ctx context.Context, expect map[Key]int64, put []definition.Document, del []Key) (revision int64, err error) {
	t, expected, err := s.documentsTransaction(expect, put, del)
	if err != nil {
		return 0, err
	}
	return s.commitDocuments(ctx, t, expected, expect)
}

// documentsTransaction makes the transaction of PutDocuments. expected are the keys of expect in the order in which commitDocuments needs them.
func (s *Store) documentsTransaction(expect map[Key]int64, put []definition.Document, del []Key) (t *transaction, expected []Key, err error) {
	t = s.transaction("writing documents")
	expected = slices.SortedFunc(maps.Keys(expect), func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range expected {
		path := s.keys.document(key)
		t.requireWritten(path, expect[key])
		t.readOnFailure(path)
	}
	named := map[Key]bool{}
	use := func(key Key) error {
		if err := key.check(); err != nil {
			return batch.Errorf(batch.CodeBadDocument, "writing document %s: %w", key, err)
		}
		if named[key] {
			return batch.Errorf(batch.CodeBadDocument, "writing document %s: it is named twice in one change: name it once", key)
		}
		named[key] = true
		return nil
	}
	for _, d := range put {
		key := Key{d.Kind, d.Name}
		if err := use(key); err != nil {
			return nil, nil, err
		}
		t.put(s.keys.document(key), string(d.YAML))
	}
	for _, key := range del {
		if err := use(key); err != nil {
			return nil, nil, err
		}
		t.delete(s.keys.document(key))
	}
	return t, expected, nil
}

// commitDocuments sends a transaction that documentsTransaction made, and returns its revision.
func (s *Store) commitDocuments(ctx context.Context, t *transaction, expected []Key, expect map[Key]int64) (revision int64, err error) {
	answer, err := t.commit(ctx)
	if err != nil {
		return 0, err
	}
	if !answer.Succeeded {
		return 0, conflict(expected, expect, answer)
	}
	return answer.Header.Revision, nil
}

// Parts divides documents into parts that PutDocuments takes, if each part is written with the revisions of its documents expected.
// Connectors come first, then functions, then flows, so that no document comes before one that it names. Each part is as large as
// possible. A document that is too large for any transaction gets a part of its own, which PutDocuments refuses.
func (s *Store) Parts(docs []definition.Document) (parts [][]definition.Document) {
	ordered := slices.Clone(docs)
	slices.SortStableFunc(ordered, func(a, b definition.Document) int {
		return slices.Index(kindsInOrder, a.Kind) - slices.Index(kindsInOrder, b.Kind)
	})
	var part []definition.Document
	bytes := requestOverhead
	for _, d := range ordered {
		// A document's key is in the transaction three times: in the write, in the condition, and in the read for when that fails.
		weight := len(d.YAML) + 3*(len(s.keys.document(Key{d.Kind, d.Name}))+entryOverhead)
		if len(part) > 0 && (len(part) >= s.maxOps || bytes+weight > maxBytes) {
			parts, part, bytes = append(parts, part), nil, requestOverhead
		}
		part, bytes = append(part, d), bytes+weight
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	return parts
}

// kindsInOrder are the kinds of documents in the order in which they may be written one after the other.
var kindsInOrder = []definition.Kind{definition.KindConn, definition.KindFunc, definition.KindFlow}

// conflict is the error that names the documents that are not at the expected revision. The answer holds the revisions that were found, in
// the order of expected.
func conflict(expected []Key, expect map[Key]int64, answer *clientv3.TxnResponse) error {
	var found []string
	for i, key := range expected {
		is := int64(0)
		if kvs := answer.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			is = kvs[0].ModRevision
		}
		if is != expect[key] {
			found = append(found, fmt.Sprintf("%s is at revision %d, not %d", key, is, expect[key]))
		}
	}
	return batch.Errorf(batch.CodeConflict, "writing documents: somebody changed them meanwhile: %s (revision 0 means that the document does not exist); nothing was written: look at them and try again",
		strings.Join(found, ", "))
}
