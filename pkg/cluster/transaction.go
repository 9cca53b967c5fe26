package cluster

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Sizes in bytes, by which commit refuses a transaction that etcd would refuse.
const (
	maxBytes        = 3 << 19 // 1.5 MiB: etcd's default limit for a request
	requestOverhead = 256     // the bytes of a request beside its operations and conditions, rounded up
	entryOverhead   = 32      // the bytes of an operation or condition beside its key and value, rounded up
)

// transaction gathers conditions and writes for one transaction of etcd, and counts the bytes that etcd will count. It belongs to one
// goroutine.
type transaction struct {
	store *Store
	doing string // says what the transaction is for, in messages

	conditions []clientv3.Cmp
	then       []clientv3.Op // the writes, which etcd makes if all conditions hold
	otherwise  []clientv3.Op // the reads, which etcd makes if a condition does not hold
	bytes      int           // the size of conditions, then and otherwise, as etcd will count it
}

// transaction begins an empty transaction. doing says what it is for, such as "writing documents".
func (s *Store) transaction(doing string) *transaction {
	return &transaction{store: s, doing: doing}
}

// condition adds a condition to the transaction, and counts the bytes of its key.
func (t *transaction) condition(c clientv3.Cmp, key string) {
	t.conditions = append(t.conditions, c)
	t.bytes += len(key) + entryOverhead
}

// requireCreated adds the condition that a key was created at a revision of etcd. Revision 0 means that the key must not exist.
func (t *transaction) requireCreated(key string, revision int64) {
	t.condition(clientv3.Compare(clientv3.CreateRevision(key), "=", revision), key)
}

// requireWritten adds the condition that a key was last written at a revision of etcd. Revision 0 means that the key must not exist.
func (t *transaction) requireWritten(key string, revision int64) {
	t.condition(clientv3.Compare(clientv3.ModRevision(key), "=", revision), key)
}

// requireNoneSince adds the condition that no key of a range was created after a revision of etcd.
func (t *transaction) requireNoneSince(span keyRange, revision int64) {
	t.condition(clientv3.Compare(clientv3.CreateRevision(span.from), "<", revision+1).WithRange(span.to), span.from+span.to)
}

// put adds a write of a key.
func (t *transaction) put(key, value string, options ...clientv3.OpOption) {
	t.then = append(t.then, clientv3.OpPut(key, value, options...))
	t.bytes += len(key) + len(value) + entryOverhead
}

// delete adds the removal of a key. A key that does not exist is no error.
func (t *transaction) delete(key string) {
	t.then = append(t.then, clientv3.OpDelete(key))
	t.bytes += len(key) + entryOverhead
}

// readOnFailure adds a read of a key's revision, for when a condition does not hold.
func (t *transaction) readOnFailure(key string) {
	t.otherwise = append(t.otherwise, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	t.bytes += len(key) + entryOverhead
}

// check returns an error that says what to do if etcd would refuse the transaction for its size.
func (t *transaction) check() error {
	switch n := max(len(t.conditions), len(t.then)); {
	case n > t.store.maxOps:
		return batch.Errorf(batch.CodeBadDocument, "%s: %d keys at once, etcd takes %d in one transaction: write them in parts (kisgrid apply --in-parts does), "+
			"or raise etcd's --max-txn-ops, and then the coordinators' to the same", t.doing, n, t.store.maxOps)
	case t.bytes+requestOverhead > maxBytes:
		return batch.Errorf(batch.CodeBadDocument, "%s: %d bytes at once, etcd takes %d in one transaction: write less, or in parts (kisgrid apply --in-parts does)",
			t.doing, t.bytes+requestOverhead, maxBytes)
	}
	return nil
}

// hasRoom reports whether etcd would also take the transaction with one more write, of this key and value.
func (t *transaction) hasRoom(key, value string) bool {
	return len(t.then) < t.store.maxOps && t.bytes+len(key)+len(value)+entryOverhead+requestOverhead <= maxBytes
}

// commit sends the transaction. One that etcd would refuse for its size is refused here, with the error of check.
// Succeeded in the answer says whether the conditions held; if they did not, nothing was written. After an error of the connection the
// transaction may have been written all the same.
func (t *transaction) commit(ctx context.Context) (*clientv3.TxnResponse, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, t.store.timeout)
	defer cancel()
	answer, err := t.store.client.Txn(call).If(t.conditions...).Then(t.then...).Else(t.otherwise...).Commit()
	if err != nil {
		pointInDoubt.Hit()
		return nil, t.store.explain(ctx, t.doing, err)
	}
	return answer, nil
}

// ownOps is the limit for operations in a transaction that KisGrid writes for itself, such as statuses. It is Config.MaxOperations, but at most
// etcd's default, so that these writes succeed even if somebody has raised MaxOperations without raising etcd's --max-txn-ops.
func (s *Store) ownOps() int { return max(1, min(s.maxOps, DefaultMaxOperations)) }
